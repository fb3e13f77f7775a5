"""What looks at a run's pixels once more: the audit of the comparison, and what detectors do once patches changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from histoforensics.forensics import FAKE, REAL, Detector
from histoforensics.forensics.auditing import FEWEST, audit
from histoforensics.forensics.effects import effect_sizes, effects_by_reason
from histoforensics.forensics.joining import joined
from histoforensics.forensics.leaks import sha256_of_patches, split_digest
from histoforensics.forensics.morphology import MPP_RANGE, morphology
from histoforensics.slides import Codec, Progress

from .generalization import HeldOut
from .learning import Narrator, is_cnn
from .material import Material, fake_path
from .perturbations import PERTURBATIONS, Perturbation
from .robustness import CLEAN, robustness, summary
from .stages import digest, json_stage
from .tissue import SlideTissue, Tissue

LEAST_GROUPS = 4  # of reals, for the audit's folds
AUDIT_BOOT, ROBUST_BOOT = 500, 300
QUICK_PATCHES, CNN_PATCHES = 60, 30  # of a class, for the curves
REASON_PATCHES, REASON_BOOT = 60, 2000  # a p of 1 in 2001 survives Holm over a hundred features and generators
CNN_SEVERITIES = 2  # of each perturbation, the first and the last: a network takes ten times as long a patch
AUDIT_KEYS = ("verdict", "easy", "sentence", "reasons", "notes", "counts", "associations", "duplicates", "codec_swap",
              "sources")  # fmt: skip
NOT_FAIR, NOT_AUDITED = "not fair", "not audited"


@dataclass(frozen=True)
class Probe:
    """The probes of one run, each kept as a stage.

    Attributes:
        work: The run's folder of stages.
        seed: Of the run.
        narrate: Gives a progress callback for each stage, by title.
        curves: What robustness is measured against; None: all, networks at the ends of each only.
    """

    work: Path
    seed: int
    narrate: Narrator
    curves: tuple[Perturbation, ...] | None = None

    def audit(self, material: Material, tissue: Tissue, *, same_source: bool | None) -> dict[str, Any]:
        """:func:`audit_material`, before any detector is trained."""

        def make() -> dict[str, Any]:
            with self.narrate("Auditing the comparison") as progress:
                return audit_material(material, tissue, same_source=same_source, seed=self.seed, progress=progress)

        key = {"patches": _patches(material), "tissue": digest(tissue.facts()), "seed": self.seed}
        found: dict[str, Any] = json_stage(self.work / "audit", key | {"same_source": same_source}, make)
        return found

    def robustness(self, detectors: Mapping[str, Detector], test: HeldOut) -> dict[str, Any]:
        """The rows of :func:`robustness_rows` of every detector, and their summary a perturbation."""
        rows = [row for name, detector in detectors.items() for row in self._curves(name, detector, test)]
        return {"rows": rows, "summary": summary(pd.DataFrame(rows)).to_dict("records") if rows else []}

    def reasons(self, material: Material, mpp: float | None) -> dict[str, Any]:
        """:func:`reasons_measured` of the held-out patches."""

        def make() -> dict[str, Any]:
            with self.narrate("Measuring the pathologist's reasons"):
                return reasons_measured(material, mpp, seed=self.seed)

        fields = {"patches": _patches(material), "mpp": mpp, "seed": self.seed}
        found: dict[str, Any] = json_stage(self.work / "reasons", fields, make)
        return found

    def _curves(self, name: str, detector: Detector, test: HeldOut) -> list[dict[str, Any]]:
        curves = severities(name) if self.curves is None else self.curves

        def make() -> list[dict[str, Any]]:
            with self.narrate(f"Robustness of {name}") as progress:
                return robustness_rows(detector, name, test, curves, seed=self.seed, progress=progress)

        patches = split_digest(sha256_of_patches(test.pixels))
        fields = {"detector": name, "weights": detector.card.weights_sha256, "patches": patches, "seed": self.seed}
        fields |= {"curves": {one.name: one.severities for one in curves}}
        rows: list[dict[str, Any]] = json_stage(self.work / "robustness" / name, fields, make)
        return rows


def audit_material(
    material: Material, tissue: Tissue, *, same_source: bool | None, seed: int, progress: Progress | None = None
) -> dict[str, Any]:
    """The audit of what the detectors are judged on: `Audit.to_json`, its own controls under another name.

    Args:
        material: Matched patches of a run; those held out are looked at.
        tissue: Where the reals come from; its codec is replayed, and reals take the fakes' path for the placebo.
        same_source: Whether the generators are known to have learned from this tissue.
        seed: Of draws, folds and resampling.
        progress: Told after each step.

    Returns:
        The keys of ``audit`` in results.json; where patches or groups are too few, the verdict is "not audited".
    """
    real = material.real["exam"]
    fake = joined([roles["exam"] for roles in material.fakes.values()])
    groups = len(real.table["block"].dropna().unique())
    if min(len(real), len(fake)) < FEWEST or groups < LEAST_GROUPS:
        return not_audited(
            f"{len(real)} reals of {groups} blocks, slides or patients and {len(fake)} fakes are held out; "
            f"an audit takes {FEWEST} of each and {LEAST_GROUPS} of these groups"
        )
    path = partial(fake_path, tissue=tissue, rng=np.random.default_rng([seed, 29]))
    told = audit(
        real, fake, seed=seed, codec=_one_codec(tissue), path=path, same_source=same_source, n_boot=AUDIT_BOOT,
        progress=progress,
    ).to_json()  # fmt: skip
    return {key: told[key] for key in AUDIT_KEYS} | {
        "cross_fitted_controls": told["controls"],
        "path_placebo": told["placebo"],
    }


def robustness_rows(
    detector: Detector,
    name: str,
    test: HeldOut,
    curves: Sequence[Perturbation],
    *,
    seed: int,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """The rows of `robustness` on a draw of the held-out patches; fewer patches for a network.

    Empty without curves, and where a class comes from one block only: no interval can be told, and one is no test.
    """
    labels = np.where(test.table["label"] == "fake", FAKE, REAL)
    groups = test.table["block"].fillna(test.table["id"]).to_numpy(object)
    if not curves or min(len(set(groups[labels == c])) for c in (REAL, FAKE)) < 2:
        return []
    found = robustness(
        detector, test.pixels, labels, groups, perturbations=curves, n_boot=ROBUST_BOOT, seed=seed,
        limit=CNN_PATCHES if is_cnn(name) else QUICK_PATCHES, progress=progress,
    )  # fmt: skip
    rows = found.assign(detector=name).to_dict("records")
    return [
        {str(key): value for key, value in row.items()}
        | {"severity": None if row["perturbation"] == CLEAN else row["severity"]}
        for row in rows
    ]


def reasons_measured(material: Material, mpp: float | None, *, seed: int) -> dict[str, Any]:
    """Which of the pathologist's reasons differ, by generator, on a draw of the held-out patches.

    Args:
        material: Matched patches of a run.
        mpp: Micrometres per pixel; nuclei cannot be measured without it.
        seed: Of the draw and the resampling.

    Returns:
        ``rows`` (`effects.effect_sizes`), ``by_reason`` (`effects.effects_by_reason`), ``patches`` of a class looked
        at, and ``why_not`` where there are none.
    """
    if mpp is None or not MPP_RANGE[0] <= mpp <= MPP_RANGE[1]:
        known = "is not known" if mpp is None else f"of {mpp:.3g} um/px is outside {MPP_RANGE[0]:g} to {MPP_RANGE[1]:g}"
        return {"rows": [], "by_reason": [], "patches": 0, "why_not": f"the patches' resolution {known}"}
    rng = np.random.default_rng([seed, 31])
    real, rows = material.real["exam"], {}
    for name, patches in {"real": real, **{name: roles["exam"] for name, roles in material.fakes.items()}}.items():
        rows[name] = np.sort(rng.permutation(len(patches))[:REASON_PATCHES])
    measured = {name: morphology(roles["exam"].pixels(rows[name]), mpp) for name, roles in material.fakes.items()}
    groups = real.table["block"].fillna(real.table["id"]).to_numpy(object)[rows["real"]]
    table = effect_sizes(
        morphology(real.pixels(rows["real"]), mpp), measured, real_groups=groups, n_boot=REASON_BOOT, seed=seed
    )
    told: dict[str, Any] = {"rows": table.to_dict("records"), "by_reason": effects_by_reason(table).to_dict("records")}
    whole: dict[str, Any] = _without_nan(told)
    return whole | {"patches": len(rows["real"]), "why_not": None}


def severities(name: str) -> tuple[Perturbation, ...]:
    """Every perturbation with the severities that a detector is tried at where the study names none."""
    if not is_cnn(name):
        return PERTURBATIONS
    return tuple(replace(one, severities=_ends(one.severities)) for one in PERTURBATIONS)


def not_audited(why: str) -> dict[str, Any]:
    """What :func:`audit_material` returns where nothing was audited, and why not."""
    empty: Mapping[str, Any] = {
        "easy": False, "reasons": [], "counts": {}, "associations": [], "duplicates": {}, "codec_swap": None,
        "sources": {}, "cross_fitted_controls": {}, "path_placebo": None,
    }  # fmt: skip
    note = {"code": "too-few", "sentence": why, "number": 0.0}
    return {"verdict": NOT_AUDITED, "sentence": f"This comparison was not audited: {why}.", "notes": [note], **empty}


def _ends(values: tuple[float, ...]) -> tuple[float, ...]:
    step = (len(values) - 1) // (CNN_SEVERITIES - 1)
    return values[::step][:CNN_SEVERITIES]


def _one_codec(tissue: Tissue) -> Codec | None:
    """The codec of the tissue where all of it has the same; folders of images have one a file."""
    codecs = [slide.codec for slide, _ in tissue.parts] if isinstance(tissue, SlideTissue) else []
    return codecs[0] if codecs and all(codec == codecs[0] for codec in codecs) else None


def _without_nan(value: Any) -> Any:
    """``value`` with None in place of NaN."""
    if isinstance(value, dict):
        return {str(key): _without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def _patches(material: Material) -> str:
    sets = [material.real["exam"], *(roles["exam"] for roles in material.fakes.values())]
    return digest([list(one.table["sha256"]) for one in sets])
