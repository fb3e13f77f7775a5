"""From measurements to a verdict: the audit's rules, each with a code, a sentence and its number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .associations import Association, Role
from .metrics import AucInterval
from .ood import MPP_TOLERANCE
from .placebo import Placebo

STRONG_V, STRONG_P = 0.3, 0.001  # a field that goes with the label; together, so that chance in few patches does not
EASY_AUC = 0.85  # above it a trivial cue tells the classes apart
CODEC_DROP = 0.1  # of the AUC when both classes get one codec
PLACEBO_AUC = 0.6  # beside an interval above 0.5, which one fair audit in forty has by chance
NEAR_SHARE = 0.01  # of near duplicates between the sets
FEW_GROUPS = 8

LOOKS_AT = {"rgb": "mean colour", "blockiness": "the edges of 8-px blocks", "slope": "the slope of the spectrum"}

Swap = Mapping[tuple[str, str], AucInterval]


@dataclass(frozen=True)
class Reason:
    """One thing that the audit says."""

    code: str
    sentence: str  # without a capital and a full stop
    number: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"code": self.code, "sentence": self.sentence, "number": self.number}


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was measured."""

    associations: tuple[Association, ...]
    duplicates: Mapping[str, int]
    controls: Mapping[str, AucInterval]
    swap: Swap
    matched_blockiness: AucInterval
    codec_policy: str
    codec_known: bool
    placebo: Placebo
    placebo_path: bool
    detector: str
    sources: Mapping[str, Any]
    looked_at: tuple[int, int]
    group_level: str
    groups: int
    mpp: tuple[float | None, float | None]
    sizes: tuple[str, str]
    patch_px: int

    @property
    def best_control(self) -> tuple[str, AucInterval]:
        """The control with the highest AUC."""
        name = max(self.controls, key=lambda one: self.controls[one].auc)
        return name, self.controls[name]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "associations": [one.to_json() for one in self.associations],
            "duplicates": dict(self.duplicates),
            "controls": {name: _told(cell) for name, cell in self.controls.items()},
            "best_control": self.best_control[0],
            "codec_swap": {
                "detector": self.detector,
                "codec": self.codec_policy,
                "cells": [
                    {"trained_on": learned, "judged_on": judged, **_told(cell)}
                    for (learned, judged), cell in self.swap.items()
                ],
                "blockiness_matched": _told(self.matched_blockiness),
            },
            "placebo": {
                "auc": self.placebo.auc, "ci95": list(self.placebo.ci95), "holds_half": self.placebo.holds,
                "through_path": self.placebo_path, "n": self.placebo.n, "n_groups": self.placebo.n_groups,
            },
            "sources": dict(self.sources),
        }  # fmt: skip


def judge(found: Findings) -> tuple[tuple[Reason, ...], tuple[Reason, ...], bool]:
    """Reasons against the comparison, notes, and whether it is an easy one."""
    against = [*_leaks(found), *_history(found), *_codec(found), *_scale(found), *_tissue(found), *_placebo(found)]
    easy = found.best_control[1].auc > EASY_AUC
    return tuple(against), tuple(_notes(found, easy)), easy


def _leaks(found: Findings) -> list[Reason]:
    exact, near = found.duplicates["exact_between"], found.duplicates["near_between"]
    if exact:
        return [Reason("leak", f"{_patches(exact)} in both sets, pixel for pixel", exact)]
    if near > NEAR_SHARE * found.looked_at[1]:
        share = near / found.looked_at[1]
        return [Reason("near-leak", f"{near} of {found.looked_at[1]} fakes look like a copy of a real patch", share)]
    return []


def _history(found: Findings) -> list[Reason]:
    strong = [a for a in found.associations if a.role is Role.HISTORY and _strong(a)]
    return [
        Reason(
            "pixel-history",
            f"the pixel history {a.field} goes with the label (Cramér's V {a.v:.2f}): "
            f"most often {a.real} in reals, {a.fake} in fakes",
            a.v,
        )
        for a in strong
    ]


def _codec(found: Findings) -> list[Reason]:
    raw, matched = found.swap["raw", "raw"], found.swap["matched", "matched"]
    if raw.auc - matched.auc >= CODEC_DROP and raw.low > matched.high:
        return [
            Reason(
                "codec",
                f"{found.detector} falls from AUC {raw.auc:.2f} to {matched.auc:.2f} once both classes get one codec "
                f"({found.codec_policy})",
                raw.auc - matched.auc,
            )
        ]
    blocks, after = found.controls["blockiness"], found.matched_blockiness
    if blocks.auc > EASY_AUC and (not found.codec_known or blocks.auc - after.auc >= CODEC_DROP):
        return [
            Reason(
                "blockiness",
                f"the edges of 8-px blocks alone tell the sets apart (AUC {blocks.auc:.2f}): one class has a JPEG "
                "history that the other lacks",
                blocks.auc,
            )
        ]
    return []


def _scale(found: Findings) -> list[Reason]:
    real, fake = found.mpp
    if real is None or fake is None or abs(fake / real - 1) <= MPP_TOLERANCE:
        return []
    return [Reason("resolution", f"reals have {real:.3g} um/px and fakes {fake:.3g} um/px", fake / real)]


def _tissue(found: Findings) -> list[Reason]:
    colour, same = found.controls["rgb"], found.sources["same_source"]
    if same is False:
        return [
            Reason(
                "tissue",
                "the fakes were made from tissue of another source, so a detector may only tell tissues apart "
                f"(mean colour alone: AUC {colour.auc:.2f})",
                colour.auc,
            )
        ]
    if same is None and colour.low > EASY_AUC:
        return [
            Reason(
                "tissue",
                f"mean colour alone tells the sets apart (AUC {colour.auc:.2f}) and nothing says that the fakes were "
                "made from tissue of the same source",
                colour.auc,
            )
        ]
    return []


def _placebo(found: Findings) -> list[Reason]:
    placebo = found.placebo
    if placebo.ci95[0] <= 0.5 or placebo.auc < PLACEBO_AUC:
        return []
    others = "reals that took the fakes' path" if found.placebo_path else "other reals"
    told = f"{found.detector} tells reals from {others} (AUC {placebo.auc:.2f}), where it should find nothing"
    return [Reason("placebo", told, placebo.auc)]


def _notes(found: Findings, easy: bool) -> list[Reason]:
    notes = []
    best, cell = found.best_control
    if easy:
        told = f"AUC {cell.auc:.2f} comes from {LOOKS_AT.get(best, best)} alone: detectors earn no credit here"
        notes.append(Reason("easy", told, cell.auc))
    if found.sources["same_source"] is None:
        notes.append(
            Reason("source-unknown", "nothing says whether the fakes were made from tissue of the same source", 0)
        )
    if not found.codec_known:
        notes.append(Reason("codec-unknown", f"matched codec: {found.codec_policy}", 0))
    if any(size is None for size in found.mpp) and found.mpp[0] != found.mpp[1]:
        notes.append(Reason("resolution-unknown", "only one of the sets tells its um/px", 0))
    if found.sizes[0] != found.sizes[1]:
        notes.append(Reason("size", f"reals are {found.sizes[0]} and fakes {found.sizes[1]}; both were cropped to "
                            f"{found.patch_px} px", found.patch_px))  # fmt: skip
    notes += [
        Reason("field", f"{a.field} goes with the label (Cramér's V {a.v:.2f}); {_meaning(a.role)}", a.v)
        for a in found.associations
        if a.role in (Role.CONTENT, Role.FILE) and _strong(a) and a.field not in ("width", "height")
    ]
    for where in ("real", "fake"):
        again = found.duplicates[f"exact_within_{where}"], found.duplicates[f"near_within_{where}"]
        if any(again):
            notes.append(Reason(f"duplicates-{where}", f"among the {where} patches {again[0]} are exact copies of "
                                f"another, {again[1]} of those looked at near ones", sum(again)))  # fmt: skip
    if found.group_level == "patch":
        notes.append(Reason("groups-unknown", "the manifest names no slides, blocks or patients, so each real patch "
                            "counts as independent and intervals may be too narrow", found.groups))  # fmt: skip
    elif found.groups < FEW_GROUPS:
        notes.append(Reason("few-groups", f"the reals come from only {found.groups} groups", found.groups))
    return notes


def _strong(one: Association) -> bool:
    return one.v >= STRONG_V and one.p < STRONG_P


def _meaning(role: Role) -> str:
    if role is Role.FILE:
        return "a detector that reads pixels does not see it, a reader of the files may"
    return "it follows from what is in the pictures"


def _patches(count: int) -> str:
    return "1 patch stands" if count == 1 else f"{count} patches stand"


def _told(cell: AucInterval) -> dict[str, Any]:
    return {"auc": cell.auc, "ci95": list(cell.ci95)}
