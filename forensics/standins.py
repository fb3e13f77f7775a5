"""Stand-in fakes: real patches that took a generator's last step, so that detectors learn synthesis and not one GAN.

A generator ends in enlargements by two. A stand-in is a real patch halved and enlarged again by such a step, with noise
of the missing fine energy that is enlarged along with it, as a generator's own details are. Every enlargement by two is
four small filters whose outputs are interleaved (a sub-pixel shuffle), so one table of filters holds them all.

References: Odena et al. 2016, doi:10.23915/distill.00003 (transposed convolutions and their checkerboard); Shi et al.
2016, arXiv:1609.05158 (sub-pixel shuffle); Keys 1981 (bicubic); Karras et al. 2020, arXiv:1912.04958, whose blur after
zero insertion is the bilinear filter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch.nn.functional import conv2d, pad, pixel_shuffle

from histoforensics.slides import ConfigError, PatchError, require

from .augment import Pixels, check_patches
from .leaks import as_groups
from .training import TrainingSet

Floats = npt.NDArray[np.floating]
Path = Callable[[Pixels], Pixels]
CHUNK = 64  # patches enlarged at once: they are in floating point
FINE_SIGMA_PX = 1.0  # what a Gaussian of this width takes away is fine


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One enlargement by two: a filter for even and one for odd pixels, over the small pixels about their own."""

    even: tuple[float, ...]  # of odd length; weights of the small pixels j - r to j + r, sum 1
    odd: tuple[float, ...]
    shrink: Literal["area", "decimate"] = "area"
    learned: float = 0.0  # deviation of what is added to each weight of each of the four filters, anew for each patch
    uneven: float = 0.0  # deviation of each filter's sum: the four pixels differ in brightness, a checkerboard


def _sampled(weight: Callable[[Floats], Floats], radius: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The filters of an interpolating kernel: the new pixels lie a quarter of a small one to either side."""
    places = np.arange(-radius, radius + 1)
    even, odd = (weight(np.abs(places - offset)) for offset in (-0.25, 0.25))
    return tuple((even / even.sum()).tolist()), tuple((odd / odd.sum()).tolist())


def _cubic(x: Floats) -> Floats:
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    cubic: Floats = np.where(x < 1, near, np.where(x < 2, far, 0))
    return cubic


def _lanczos(x: Floats) -> Floats:
    lanczos: Floats = np.where(x < 3, np.sinc(x) * np.sinc(x / 3), 0)
    return lanczos


def _pair(filters: tuple[tuple[float, ...], tuple[float, ...]]) -> Kernel:
    return Kernel(even=filters[0], odd=filters[1])


_BILINEAR = _pair(((0.25, 0.75, 0.0), (0.0, 0.75, 0.25)))
_NEAREST = _pair(((0.0, 1.0, 0.0), (0.0, 1.0, 0.0)))
_BICUBIC = _pair(_sampled(_cubic, 2))

KERNELS: dict[str, Kernel] = {
    "bilinear": _BILINEAR,
    "bicubic": _BICUBIC,
    "nearest": _NEAREST,
    "zero-insert": _pair(((0.0, 1.0, 0.0), (0.0, 0.5, 0.5))),  # zeros between pixels, then the taps 1/2, 1, 1/2
    "transposed": replace(_BILINEAR, learned=0.02, uneven=0.008),
    "lanczos": _pair(_sampled(_lanczos, 3)),
    "smooth": _pair(((0.2, 0.7, 0.1), (0.1, 0.7, 0.2))),  # nearest, then a blur
    "shuffle": replace(_BILINEAR, learned=0.02),
    "decimated": replace(_BILINEAR, shrink="decimate"),
}
TRAIN_KERNELS = ("bilinear", "bicubic", "nearest", "zero-insert", "transposed")
HELD_OUT_KERNELS = tuple(name for name in KERNELS if name not in TRAIN_KERNELS)  # for tests alone


def stand_ins(pixels: Pixels, kernels: Sequence[str], rng: np.random.Generator) -> Pixels:
    """A stand-in fake for each patch, by a kernel drawn for each: halved, enlarged again, fine energy as before.

    Args:
        pixels: Real patches, uint8 (n, h, w, 3), h and w even.
        kernels: Names from KERNELS to draw from.
        rng: Of kernels, learned filters and noise.

    Returns:
        uint8 (n, h, w, 3). It has no codec history: put it through the one of the real patches.

    Raises:
        ConfigError: If a kernel is unknown or none is given.
        PatchError: If the patches are no uint8 RGB patches of even size.

    >>> flat = np.full((2, 16, 16, 3), 200, np.uint8)
    >>> bool((stand_ins(flat, ["nearest"], np.random.default_rng(0)) == flat).all())
    True
    """
    pixels = check_patches(pixels)
    if pixels.shape[1] % 2 or pixels.shape[2] % 2:
        raise PatchError(
            f"patches of {pixels.shape[2]} x {pixels.shape[1]} px cannot be halved; even sizes are wanted."
        )
    drawn = draw_kernels(len(pixels), kernels, rng)
    out = np.empty_like(pixels)
    for name in sorted(set(drawn.tolist())):
        rows = np.flatnonzero(drawn == name)
        for i in range(0, len(rows), CHUNK):
            some = rows[i : i + CHUNK]
            out[some] = _stand_in(pixels[some].astype(np.float32), KERNELS[name], rng)
    return out


def draw_kernels(count: int, kernels: Sequence[str], rng: np.random.Generator) -> npt.NDArray[np.str_]:
    """The name of a kernel for each of ``count`` patches, each as often as the others give or take one.

    Raises:
        ConfigError: If a kernel is unknown or none is given.
    """
    require(len(kernels) > 0, "kernels", "one or more", 0)
    for name in kernels:
        if name not in KERNELS:
            raise ConfigError(f"unknown kernel {name!r}; kernels are {', '.join(KERNELS)}.")
    return np.asarray(rng.permutation(np.resize(np.asarray(rng.permutation(list(kernels))), count)), dtype=str)


def enrich(
    data: TrainingSet,
    share: float,
    rng: np.random.Generator,
    *,
    kernels: Sequence[str] = TRAIN_KERNELS,
    path: Path | None = None,
) -> TrainingSet:
    """``data`` with stand-ins among its fakes, made from the real patches of the same split.

    Args:
        data: Its real patches stay as they are.
        share: Of the fakes that are stand-ins afterwards, 0 to 1; 1 leaves no others, one stand-in a real patch.
        rng: Of patches, kernels and noise.
        kernels: Names from KERNELS.
        path: The codec history of the real patches, as a function on patches (on a slide's grid), so that both classes
            have the same; None where the real patches are lossless.

    Raises:
        ConfigError: If the share is not from 0 to 1, or a kernel is unknown.
    """
    require(0 <= share <= 1, "share", "from 0 to 1", share)
    draw_kernels(0, kernels, rng)
    if share == 0:
        return data
    fake, groups = _mixed(data.real, data.fake, data.fake_groups, share, rng, kernels, path)
    calibration, calibration_groups = _mixed(
        data.calibration_real, data.calibration_fake, data.calibration_fake_groups, share, rng, kernels, path
    )
    told = {"share": share, "kernels": list(kernels), "through_codec": path is not None}
    return replace(
        data,
        fake=fake,
        fake_groups=groups,
        calibration_fake=calibration,
        calibration_fake_groups=calibration_groups,
        provenance={**data.provenance, "stand_ins": told},
    )


def _mixed(
    real: Pixels,
    fake: Pixels,
    fake_groups: npt.NDArray[np.generic] | None,
    share: float,
    rng: np.random.Generator,
    kernels: Sequence[str],
    path: Path | None,
) -> tuple[Pixels, npt.NDArray[np.str_]]:
    count = len(real) if share == 1 else round(share / (1 - share) * len(fake))
    source = real[np.resize(rng.permutation(len(real)), count)]
    drawn = draw_kernels(count, kernels, rng)
    made = np.empty_like(source)
    for name in kernels:
        made[drawn == name] = stand_ins(source[drawn == name], [name], rng)
    if path is not None:
        made = path(made)
    kept, known = (fake[:0], np.empty(0, dtype=str)) if share == 1 else (fake, as_groups(fake_groups, len(fake)))
    return np.concatenate([kept, made]), np.array([str(g) for g in known] + [f"stand-in {name}" for name in drawn])


def _stand_in(patches: npt.NDArray[np.float32], kernel: Kernel, rng: np.random.Generator) -> Pixels:
    """The same for float patches (n, h, w, 3) and one kernel."""
    n, h, w, _ = patches.shape
    halves = patches.reshape(n, h // 2, 2, w // 2, 2, 3)
    small = halves.mean((2, 4)) if kernel.shrink == "area" else halves[:, :, 0, :, 0]
    filters = _filters(kernel, n, rng)
    smooth = enlarge(small, filters)
    noise = enlarge(rng.standard_normal(small.shape, dtype=np.float32), filters)
    lost = np.sqrt(np.maximum(_fine(patches) - _fine(smooth), 0) / _fine(noise))
    result: Pixels = np.clip(np.rint(smooth + lost[:, None, None, None] * noise), 0, 255).astype(np.uint8)
    return result


def enlarge(small: npt.NDArray[np.float32], filters: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Images (n, 2 h, 2 w, 3) of images (n, h, w, 3) by the four filters (n, 4, s, s) of each; borders are repeated."""
    n, h, w, channels = small.shape
    size = filters.shape[-1]
    images = torch.from_numpy(np.ascontiguousarray(small.transpose(0, 3, 1, 2))).reshape(1, n * channels, h, w)
    weights = torch.from_numpy(np.repeat(filters, channels, axis=0).reshape(n * channels * 4, 1, size, size))
    padded = pad(images, (size // 2,) * 4, mode="replicate")
    four = conv2d(padded, weights, groups=n * channels).reshape(n, channels * 4, h, w)
    large: npt.NDArray[np.float32] = pixel_shuffle(four, 2).numpy().transpose(0, 2, 3, 1)
    return large


def _filters(kernel: Kernel, count: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """The four filters (count, 4, s, s) of each patch: rows even or odd, columns even or odd."""
    lines = np.array([kernel.even, kernel.odd], dtype=np.float32)
    four = np.einsum("ai,bj->abij", lines, lines).reshape(4, lines.shape[1], lines.shape[1])
    filters = np.repeat(four[None], count, axis=0)
    if kernel.learned:
        filters += kernel.learned * rng.standard_normal(filters.shape, dtype=np.float32)
        sums = 1 + kernel.uneven * rng.standard_normal((count, 4, 1, 1), dtype=np.float32)
        filters += (sums - filters.sum((2, 3), keepdims=True)) / filters.shape[-1] ** 2
    return filters


def _fine(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Variance (n,) of what a small Gaussian takes away from images (n, h, w, 3)."""
    soft = ndimage.gaussian_filter(images, (0, FINE_SIGMA_PX, FINE_SIGMA_PX, 0))
    variance: npt.NDArray[np.float32] = (images - soft).var((1, 2, 3))
    return variance
