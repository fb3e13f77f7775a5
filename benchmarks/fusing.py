"""The fusion of a run: its frequency detectors, which are trained already, weighed by what each adds.

The weights are fitted on scores of patches that the scorers never saw: each member is trained again on parts of the
training split, without augmented copies, which takes seconds. What is weighed are log-likelihood ratios, so that the
weights carry over to the members of the run, each calibrated on the calibration split like any other detector.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoforensics.forensics import FAKE, REAL, Detector, TrainingSet
from histoforensics.forensics.freezing import freeze
from histoforensics.forensics.fusion import FusionDetector
from histoforensics.forensics.linear import grouped_folds
from histoforensics.forensics.stacking import fit_stack
from histoforensics.slides import Progress, run_card

WEIGHING: Mapping[str, Any] = {"copies": 0}  # of the members' fits that only serve to weigh them
FOLDS = 2


def fuse(members: Sequence[Detector], data: TrainingSet, *, seed: int, progress: Progress | None = None) -> Detector:
    """A fusion of trained and calibrated members, its thresholds frozen on the calibration split.

    Args:
        members: Linear detectors, trained on ``data`` and calibrated on it.
        data: Its training split gives the weights, its calibration split the thresholds.
        seed: Of the folds and the members' fits.
        progress: Told after each fit.
    """
    started = time.time()
    pixels = np.concatenate([data.real, data.fake])
    labels = np.repeat([REAL, FAKE], [len(data.real), len(data.fake)])
    names = [member.name for member in members]
    stack = fit_stack(_held_out_logits(members, pixels, labels, _groups(data), seed, progress), labels)
    scales, biases = (np.array([float(getattr(member, name)) for member in members]) for name in ("scale", "bias"))
    fusion = FusionDetector.assembled(members, replace(stack, scales=scales, biases=biases))
    weighed = fusion.card.run
    fusion.seen = {"training": data.splits()["training"]}
    calibration = freeze(
        fusion, data.calibration_real, data.calibration_fake, real_groups=data.calibration_real_groups,
        fake_groups=data.calibration_fake_groups,
    )  # fmt: skip
    fusion.card = replace(
        members[0].card, name=fusion.name, kind=fusion.kind, config=dict(fusion.config()), seed=seed,
        options={"members": names}, splits=fusion.card.splits, calibration=calibration, domain=fusion.card.domain,
        promise=calibration.promise, weights_sha256="",
        run={**run_card({"detector": fusion.name, "seed": seed}, {}, started=started), **weighed},
    )  # fmt: skip
    return fusion


def _held_out_logits(
    members: Sequence[Detector],
    pixels: NDArray[np.uint8],
    labels: NDArray[np.intp],
    groups: NDArray[np.str_],
    seed: int,
    progress: Progress | None,
) -> NDArray[np.float32]:
    """Logits (n, members) of each patch by detectors of the members' kinds that never saw its group."""
    fold = grouped_folds(labels, groups, np.random.default_rng(seed), FOLDS)
    out = np.empty((len(labels), len(members)), dtype=np.float32)
    rounds = [(k, i) for k in sorted(set(fold.tolist())) for i in range(len(members))]
    for done, (k, i) in enumerate(rounds):
        rows = fold == k
        kind = type(members[i])
        judge = kind.fit(pixels[~rows], labels[~rows], seed=seed, groups=groups[~rows], **WEIGHING)
        out[rows, i] = judge.logits(pixels[rows])
        if progress is not None:
            progress(done + 1, len(rounds), members[i].name)
    return out


def _groups(data: TrainingSet) -> NDArray[np.str_]:
    """What patches have in common, real and fake apart; a patch without a group is its own."""
    parts = [("real", data.real, data.real_groups), ("fake", data.fake, data.fake_groups)]
    return np.array([
        f"{kind} {group}"
        for kind, patches, groups in parts
        for group in (range(len(patches)) if groups is None else groups)
    ])  # fmt: skip
