"""The audit: can this comparison of real and generated patches be believed, before any detector is?

It looks for everything that tells the two sets apart without being synthesis: what their manifests and files say, how
they were compressed, trivial cues, patches that stand in both, tissue of other slides. What it finds becomes reasons,
each with a code, a sentence and a number; one unfair reason makes the comparison not fair.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from histoforensics.slides import Codec, PatchError, PatchSet, pixel_digest, require
from histoforensics.slides.progress import Progress

from .associations import associate
from .audit_codec import prepare
from .audit_reasons import Findings, Reason, judge
from .crossfit import cross_fitted_aucs
from .detector import Groups, Pixels
from .duplicates import exact_duplicates, near_duplicates
from .filefacts import file_facts
from .metrics import AucInterval
from .placebo import Placebo, placebo_auc
from .registry import CONTROLS, detector_class
from .splits import real_groups

MOST = 300  # patches of a class whose pixels are looked at
FEWEST = 16
DETECTOR = "radial-lr"  # fast, and sees every codec
SWAP_OPTIONS: Mapping[str, Any] = {"copies": 0, "penalties": (10.0,)}  # augmentation would hide what is looked for
CONTROL_OPTIONS: Mapping[str, Any] = {
    "penalties": (1.0,)
}  # so few numbers need no choice, which takes most of the time
STEPS = 7


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What the audit found.

    Attributes:
        verdict: "fair" or "not fair".
        easy: Whether a trivial cue tells the sets apart so well that detectors earn no credit.
        reasons: Why the comparison is not fair, worst first; empty if it is fair.
        notes: Whatever else should be known.
        findings: The measurements behind them.
        counts: Patches, how many of them were looked at, groups, judged size, seconds.
    """

    verdict: str
    easy: bool
    reasons: tuple[Reason, ...]
    notes: tuple[Reason, ...]
    findings: Findings
    counts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """The verdict in plain words."""
        if self.reasons:
            return f"This comparison is not fair, because {'; '.join(reason.sentence for reason in self.reasons)}."
        found = self.findings
        change = found.swap["matched", "matched"].auc - found.swap["raw", "raw"].auc
        low, high = found.placebo.ci95
        return (
            "This comparison is fair as far as this audit can see, because no known pixel history goes with the label, "
            f"giving both classes one codec changes the AUC of {found.detector} by {change:+z.2f}, its placebo reaches "
            f"{found.placebo.auc:.2f} ({low:.2f} to {high:.2f}; 0.5 is nothing), and no patch stands in both sets."
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values: verdict, easy, sentence, reasons, notes, counts, then the measurements."""
        return {
            "verdict": self.verdict,
            "easy": self.easy,
            "sentence": self.sentence,
            "reasons": [reason.to_json() for reason in self.reasons],
            "notes": [note.to_json() for note in self.notes],
            "counts": dict(self.counts),
            **self.findings.to_json(),
        }


def audit(
    real: PatchSet,
    fake: PatchSet,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    codec: Codec | None = None,
    path: Callable[[Pixels], Pixels] | None = None,
    same_source: bool | None = None,
    detector: str = DETECTOR,
    most: int = MOST,
    n_boot: int = 1000,
) -> Audit:
    """Whether telling ``fake`` from ``real`` says anything of synthesis.

    Args:
        real: Real patches.
        fake: Fakes. Patches of both are cropped to the smallest edge that there is, from the top left.
        seed: Of the patches that are looked at, folds, trainings and resampling.
        progress: Told after each of seven steps.
        codec: Every compression that the reals' source is known to have had; see :func:`audit_codec.prepare` for what
            stands in for it.
        path: What fakes go through before they are judged; the placebo then sends reals through it. Without it the
            placebo tells halves of the reals apart, which only finds patches that stand there twice.
        same_source: Whether the fakes' generators learned from tissue of the same source as the reals; None if that
            is not known, when equal source slides in both manifests still say so.
        detector: That judges codecs and placebo; a fast one.
        most: Patches of a class whose pixels are looked at, drawn at random.
        n_boot: Resamples for the intervals.

    Raises:
        PatchError: If a set has fewer than 16 patches, is labelled as the other, or a patch is under 32 px.
        DetectorError: If no detector has that name.
    """
    started = time.perf_counter()
    require(most >= FEWEST, "most", f"at least {FEWEST}", most)
    detector_class(detector)
    _check(real, "real", "fake")
    _check(fake, "fake", "real")
    tell = _teller(progress)
    rng = np.random.default_rng(seed)
    px = _judged_px(real, fake)
    real_rows, fake_rows = _drawn(len(real), most, rng), _drawn(len(fake), most, rng)
    reals, fakes = _pixels(real, real_rows, px), _pixels(fake, fake_rows, px)
    level, groups = _groups(real, real_rows)
    tell("patches read")

    associations = associate(real.table, fake.table)
    associations += associate(file_facts(real, real_rows.tolist()), file_facts(fake, fake_rows.tolist()))
    tell("manifests and files")
    duplicates = _duplicates(real, fake, reals, fakes)
    tell("duplicates")
    controls = {name: _control(name, reals, fakes, groups, seed, n_boot) for name in CONTROLS}
    tell("controls")
    ways = prepare(real, fake, real_rows, (reals, fakes), codec, rng)
    kept = {"raw": reals, "matched": ways.real}, {"raw": fakes, "matched": ways.fake}
    swap = cross_fitted_aucs(detector, *kept, groups, seed=seed, n_boot=n_boot, options=SWAP_OPTIONS)
    tell("codec swap")
    matched_blocks = _control("blockiness", ways.real, ways.fake, groups, seed, n_boot)
    tell("blockiness once matched")
    placebo = _placebo(detector, reals, groups, path, seed, n_boot)
    tell("placebo")

    findings = Findings(
        associations=tuple(associations), duplicates=duplicates, controls=controls, swap=swap,
        matched_blockiness=matched_blocks, codec_policy=ways.policy, codec_known=ways.known, placebo=placebo,
        placebo_path=path is not None, detector=detector, sources=_sources(real, fake, same_source),
        looked_at=(len(reals), len(fakes)), group_level=level, groups=len(np.unique(groups)),
        mpp=(_mpp(real), _mpp(fake)), sizes=(_sizes(real), _sizes(fake)), patch_px=px,
    )  # fmt: skip
    reasons, notes, easy = judge(findings)
    return Audit(
        verdict="not fair" if reasons else "fair", easy=easy, reasons=reasons, notes=notes, findings=findings,
        counts={"real": len(real), "fake": len(fake), "real_looked_at": len(reals), "fake_looked_at": len(fakes),
                "real_groups": findings.groups, "grouped_by": level, "patch_px": px, "seed": seed,
                "seconds": round(time.perf_counter() - started, 1)},
    )  # fmt: skip


def _check(patches: PatchSet, label: str, other: str) -> None:
    if len(patches) < FEWEST:
        raise PatchError(f"{patches.root.name}: {len(patches)} patches are too few to audit; at least {FEWEST}.")
    wrong = int((patches.table["label"] == other).sum())
    if wrong:
        raise PatchError(f"{patches.root.name}: {wrong} of {len(patches)} patches are labelled {other}, not {label}.")


def _judged_px(real: PatchSet, fake: PatchSet) -> int:
    px = min(int(patches.table[edge].min()) for patches in (real, fake) for edge in ("width", "height"))
    if px < 32:
        raise PatchError(f"a patch is only {px} px wide or high; at least 32 px are wanted.")
    return px


def _drawn(n: int, most: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    rows: npt.NDArray[np.intp] = np.sort(rng.permutation(n)[:most])
    return rows


def _pixels(patches: PatchSet, rows: npt.NDArray[np.intp], px: int) -> Pixels:
    return np.concatenate([patches.pixels([int(row)])[:, :px, :px] for row in rows])


def _groups(real: PatchSet, rows: npt.NDArray[np.intp]) -> tuple[str, Groups]:
    """The coarsest level with enough groups among the patches that are looked at, and each patch's group."""
    return real_groups(real.table.iloc[rows].reset_index(drop=True))


def _duplicates(real: PatchSet, fake: PatchSet, reals: Pixels, fakes: Pixels) -> dict[str, int]:
    """Exact ones by the manifests' digests of all patches; near ones among those that are looked at.

    Exact copies of the cropped patches are looked for as well: sets of two sizes may share them.
    """
    cropped = [[pixel_digest(patch) for patch in pixels] for pixels in (reals, fakes)]
    return {
        "exact_between": max(
            exact_duplicates(fake.table["sha256"], real.table["sha256"]), exact_duplicates(cropped[1], cropped[0])
        ),
        "exact_within_real": exact_duplicates(real.table["sha256"]),
        "exact_within_fake": exact_duplicates(fake.table["sha256"]),
        "near_between": len({pair.row for pair in near_duplicates(fakes, reals)}),
        "near_within_real": len({pair.other for pair in near_duplicates(reals)}),
        "near_within_fake": len({pair.other for pair in near_duplicates(fakes)}),
    }


def _control(name: str, reals: Pixels, fakes: Pixels, groups: Groups, seed: int, n_boot: int) -> AucInterval:
    """How well a trivial cue tells the sets apart."""
    cells = cross_fitted_aucs(name, {"": reals}, {"": fakes}, groups, seed=seed, n_boot=n_boot, options=CONTROL_OPTIONS)
    return cells["", ""]


def _placebo(
    detector: str, reals: Pixels, groups: Groups, path: Callable[[Pixels], Pixels] | None, seed: int, n_boot: int
) -> Placebo:
    through = reals if path is None else path(reals)
    return placebo_auc(detector, reals, through, groups, seed=seed, n_boot=n_boot, options=SWAP_OPTIONS)


def _sources(real: PatchSet, fake: PatchSet, same_source: bool | None) -> dict[str, Any]:
    """The slides of both manifests, how many they share, and whether that says anything of one source."""
    slides = [set(patches.table["source_slide"].dropna().astype(str)) for patches in (real, fake)]
    shared = sorted(slides[0] & slides[1])
    same = True if same_source is None and shared else same_source
    return {"real_slides": len(slides[0]), "shared_slides": len(shared), "same_source": same,
            "told_by_caller": same_source is not None}  # fmt: skip


def _mpp(patches: PatchSet) -> float | None:
    known = patches.table["mpp"].dropna()
    return float(known.median()) if len(known) else None


def _sizes(patches: PatchSet) -> str:
    counts = patches.table.groupby(["width", "height"]).size().sort_values(ascending=False)
    width, height = counts.index[0]
    more = f" and {len(counts) - 1} other sizes" if len(counts) > 1 else ""
    return f"{int(width)} x {int(height)} px{more}"


def _teller(progress: Progress | None) -> Callable[[str], None]:
    done = 0

    def tell(note: str) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, STEPS, note)

    return tell
