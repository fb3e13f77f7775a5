"""The frequency detectors: against the published loop, and the three together against 1.2 ms a 256-px patch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from ratio import Ratio, compare

from histoforensics.forensics.cascade import MOST_DEFERRED, CascadeDetector
from histoforensics.forensics.fusion import FusionDetector
from histoforensics.forensics.radial import radial_profile

PATCHES, PX, BUDGET_SECONDS, CASCADE_SECONDS = 32, 256, 1.2e-3, 1e-2


def durall_loop(gray: np.ndarray) -> np.ndarray:
    """The azimuthal mean as it was published: indices, sort and cumulative sums anew for every image."""
    spectrum = 20 * np.log(np.abs(np.fft.fftshift(np.fft.fft2(gray))) + 1e-8)
    y, x = np.indices(spectrum.shape)
    centre = (np.array(spectrum.shape) - 1) / 2
    radius = np.hypot(x - centre[1], y - centre[0])
    order = np.argsort(radius.flat)
    sorted_radius, values = radius.flat[order].astype(int), spectrum.flat[order]
    ends = np.where(np.diff(sorted_radius))[0]
    sums = np.cumsum(values, dtype=float)[ends]
    return np.diff(sums) / np.diff(ends)


def measurements() -> Iterator[Ratio]:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (PATCHES, PX, PX, 3), dtype=np.uint8)
    gray = pixels.mean(axis=3).astype(np.float32)
    grey = torch.from_numpy(gray)
    yield compare(
        "radial profile, 32 patches of 256 px: published loop",
        lambda: [durall_loop(image) for image in gray],
        lambda: radial_profile(grey),
        wanted=15.0,
    )
    small = rng.integers(0, 256, (24, PX, PX, 3), dtype=np.uint8)
    labels = np.arange(24) % 2
    together = FusionDetector.fit(small, labels, seed=0, members=("radial-lr", "dct-ridge", "wht-lr"), folds=2)
    ours = compare(
        "radial-lr + dct-ridge + wht-lr, fused, on 32 patches: budget 1.2 ms each",
        lambda: None,
        lambda: together.score(pixels),
        wanted=1.0,
    )
    yield Ratio(ours.name, BUDGET_SECONDS * PATCHES, ours.our_seconds, 1.0)
    cascade = CascadeDetector.fit(small, labels, seed=0, folds=2, budget_seconds=20)
    share = set_margin(cascade, pixels)
    ours = compare(
        f"cascade on 32 patches, {share:.0%} of them for the CNN: budget 10 ms each",
        lambda: None,
        lambda: cascade.score(pixels),
        wanted=1.0,
    )
    yield Ratio(ours.name, CASCADE_SECONDS * PATCHES, ours.our_seconds, 1.0)


def set_margin(cascade: CascadeDetector, pixels: np.ndarray) -> float:
    """Leave as many patches to the CNN as a fit may at most, whatever noise makes the first member think."""
    logits = cascade.detectors[0].logits(pixels) * cascade.scales[0].item() + cascade.biases[0].item()
    cascade.margin.fill_(float(np.quantile(np.abs(logits), MOST_DEFERRED)))
    return float(cascade.deferred(pixels).mean())
