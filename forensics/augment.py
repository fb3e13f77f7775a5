"""Augmentation of patches, applied alike to real and fake ones, so that a detector learns synthesis and not a codec.

Every operation is a pure function on uint8 RGB patches ``(n, h, w, 3)`` with one strength a patch, and keeps shape and
dtype. :func:`augment` draws the strengths and calls them in the order of an image's life: turned, stained, resized,
blurred, noisy, compressed. It never sees a label, so it cannot treat the classes differently.

References: Wang et al. 2020, arXiv:1912.11035 (blur, then JPEG 30-100); Ruifrok & Johnston 2001 (stain vectors); Tellez
et al. 2019, arXiv:1902.06543 (stain jitter in optical density).
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from histoforensics.slides.errors import PatchError, require

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

DIHEDRAL = 8  # elements of the square's symmetry group
JPEG_GRID = 16  # px: one 4:2:0 block row, so every grid phase is one of 16
RESAMPLINGS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
# Optical density of haematoxylin, eosin and a residual (rows) in R, G, B (columns); Ruifrok & Johnston 2001, table 1.
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How often and how strongly :func:`augment` changes a patch. Probabilities are per patch and independent."""

    jpeg: float = 0.3  # probability
    jpeg_quality: tuple[int, int] = (30, 100)  # both ends included
    blur: float = 0.2  # probability
    blur_sigma_px: float = 1.5  # strongest; drawn uniformly from 0
    noise: float = 0.2  # probability
    noise_sigma: float = 3.0  # strongest, in grey levels
    stain: float = 0.5  # probability
    stain_gain: float = 0.1  # each stain's density is scaled by 1 -/+ this at most
    stain_shift: float = 0.02  # and shifted by this much optical density at most
    resize: float = 0.0  # probability; off by default: it blurs the one cue that a fit of seconds has
    resize_factor: tuple[float, float] = (0.7, 1.4)  # drawn evenly in its logarithm
    dihedral: bool = True

    def __post_init__(self) -> None:
        for name in ("jpeg", "blur", "noise", "stain", "resize"):
            value = getattr(self, name)
            require(0 <= value <= 1, name, "a probability from 0 to 1", value)
        low, high = self.jpeg_quality
        require(1 <= low <= high <= 100, "jpeg_quality", "two qualities from 1 to 100, rising", self.jpeg_quality)
        small, large = self.resize_factor
        require(0.1 <= small <= large <= 10, "resize_factor", "two factors from 0.1 to 10, rising", self.resize_factor)
        for name in ("blur_sigma_px", "noise_sigma", "stain_gain", "stain_shift"):
            value = getattr(self, name)
            require(value >= 0, name, "at least 0", value)


GENTLE = Augmentation(jpeg=0.15, blur=0.1, noise=0.1, stain=0.3)  # for trainings of seconds: the clean task first


def augment(pixels: Pixels, rng: np.random.Generator, recipe: Augmentation | None = None) -> Pixels:
    """Patches after a random life: turned, stain-shifted, resized, blurred, noisy, in JPEG at a random grid phase.

    Args:
        pixels: uint8 (n, h, w, 3), square.
        rng: Where every draw comes from; the same state gives the same patches.
        recipe: Probabilities and strengths; the default is :class:`Augmentation`'s.

    Returns:
        uint8 (n, h, w, 3), a new array.
    """
    recipe = recipe or Augmentation()
    pixels = check_patches(pixels)
    n = len(pixels)
    out = dihedral(pixels, rng.integers(0, DIHEDRAL, n)) if recipe.dihedral else pixels.copy()
    stained, blurred, noisy, coded = (rng.random(n) < p for p in (recipe.stain, recipe.blur, recipe.noise, recipe.jpeg))
    gain = 1 + rng.uniform(-recipe.stain_gain, recipe.stain_gain, (n, 3))
    shift = rng.uniform(-recipe.stain_shift, recipe.stain_shift, (n, 3))
    sigma_px = rng.uniform(0, recipe.blur_sigma_px, n)
    sigma = rng.uniform(0, recipe.noise_sigma, n)
    quality = rng.integers(recipe.jpeg_quality[0], recipe.jpeg_quality[1] + 1, n)
    phase = rng.integers(0, JPEG_GRID, (n, 2))
    if recipe.resize:  # drawn last and only here, so that a recipe without it draws as it always did
        resized = rng.random(n) < recipe.resize
        low, high = (math.log(factor) for factor in recipe.resize_factor)
        factor = np.exp(rng.uniform(low, high, n))
        resampling = rng.integers(0, len(RESAMPLINGS), n)
    out[stained] = stain_jitter(out[stained], gain[stained], shift[stained])
    if recipe.resize:
        out[resized] = resize(out[resized], factor[resized], resampling[resized])
    out[blurred] = blur(out[blurred], sigma_px[blurred])
    out[noisy] = add_noise(out[noisy], sigma[noisy], rng)
    out[coded] = jpeg(out[coded], quality[coded], phase[coded])
    return out


def jpeg(
    pixels: Pixels, quality: npt.ArrayLike, phase: npt.ArrayLike = (0, 0), *, subsampling: str = "4:2:0"
) -> Pixels:
    """Patches that went through JPEG; ``phase`` (y, x) px is where in the 16-px grid each patch's corner lies.

    Args:
        pixels: uint8 (n, h, w, 3).
        quality: 1 to 100, one for all or one a patch (n,).
        phase: 0 to 15, one pair for all or one a patch (n, 2). The patch is mirrored up to the grid, coded and cut out.
        subsampling: "4:4:4", "4:2:2" or "4:2:0", as Pillow names them.
    """
    pixels = check_patches(pixels)
    n = len(pixels)
    qualities = np.broadcast_to(np.asarray(quality, dtype=int), (n,))
    phases = np.broadcast_to(np.asarray(phase, dtype=int), (n, 2))
    require(bool(np.all((qualities >= 1) & (qualities <= 100))), "quality", "from 1 to 100", qualities.tolist()[:8])
    require(bool(np.all((phases >= 0) & (phases < JPEG_GRID))), "phase", "from 0 to 15", phases.tolist()[:8])
    out = np.empty_like(pixels)
    for i in range(n):
        out[i] = _jpeg_one(pixels[i], int(qualities[i]), int(phases[i, 0]), int(phases[i, 1]), subsampling)
    return out


def _jpeg_one(patch: Pixels, quality: int, top: int, left: int, subsampling: str) -> Pixels:
    h, w = patch.shape[:2]
    bottom, right = -(top + h) % JPEG_GRID, -(left + w) % JPEG_GRID
    # symmetric keeps the border's content in whole blocks even where the patch is smaller than the padding
    padded = np.pad(patch, ((top, bottom), (left, right), (0, 0)), mode="symmetric")
    stream = io.BytesIO()
    Image.fromarray(padded).save(stream, "JPEG", quality=quality, subsampling=subsampling)
    decoded = np.asarray(Image.open(stream).convert("RGB"))
    return decoded[top : top + h, left : left + w]


def resize(pixels: Pixels, factor: npt.ArrayLike, resampling: npt.ArrayLike = 0) -> Pixels:
    """Patches resized by ``factor`` in the size they had: what is too much is cut off, what is missing mirrored.

    Args:
        pixels: uint8 (n, h, w, 3).
        factor: 0.1 to 10, one for all or one a patch (n,); above 1 enlarges. 1 changes nothing.
        resampling: 0 bilinear, 1 bicubic or 2 Lanczos, one for all or one a patch (n,); antialiased where it shrinks.
    """
    pixels = check_patches(pixels)
    factors = np.broadcast_to(np.asarray(factor, dtype=float), (len(pixels),))
    kinds = np.broadcast_to(np.asarray(resampling, dtype=int), (len(pixels),))
    require(bool(np.all((factors >= 0.1) & (factors <= 10))), "factor", "from 0.1 to 10", factors.tolist()[:8])
    require(bool(np.all((kinds >= 0) & (kinds < len(RESAMPLINGS)))), "resampling", "0, 1 or 2", kinds.tolist()[:8])
    out = np.empty_like(pixels)
    for i, patch in enumerate(pixels):
        height, width = (max(1, round(size * factors[i])) for size in patch.shape[:2])
        new = np.asarray(Image.fromarray(patch).resize((width, height), RESAMPLINGS[kinds[i]]))[: len(patch)]
        new = new[:, : patch.shape[1]]
        missing = [(0, patch.shape[axis] - new.shape[axis]) for axis in (0, 1)]
        out[i] = np.pad(new, (*missing, (0, 0)), mode="symmetric")
    return out


def blur(pixels: Pixels, sigma_px: npt.ArrayLike) -> Pixels:
    """Patches after a Gaussian of ``sigma_px`` (one for all or one a patch), borders reflected; 0 changes nothing."""
    pixels = check_patches(pixels)
    sigmas = np.broadcast_to(np.asarray(sigma_px, dtype=float), (len(pixels),))
    require(bool(np.all(sigmas >= 0)), "sigma_px", "at least 0", sigmas.tolist()[:8])
    out = np.empty_like(pixels)
    for i, sigma in enumerate(sigmas):
        out[i] = _to_uint8(ndimage.gaussian_filter(pixels[i].astype(np.float32), (sigma, sigma, 0)))
    return out


def add_noise(pixels: Pixels, sigma: npt.ArrayLike, rng: np.random.Generator) -> Pixels:
    """Patches with white Gaussian noise of ``sigma`` grey levels (one for all or one a patch), rounded and clipped."""
    pixels = check_patches(pixels)
    sigmas = np.broadcast_to(np.asarray(sigma, dtype=np.float32), (len(pixels),))
    require(bool(np.all(sigmas >= 0)), "sigma", "at least 0", sigmas.tolist()[:8])
    noise = rng.standard_normal(pixels.shape, dtype=np.float32) * sigmas[:, None, None, None]
    return _to_uint8(pixels + noise)


def stain_jitter(pixels: Pixels, gain: npt.ArrayLike, shift: npt.ArrayLike = 0.0) -> Pixels:
    """Patches whose haematoxylin, eosin and residual densities are scaled by ``gain`` and moved by ``shift``.

    Args:
        pixels: uint8 (n, h, w, 3).
        gain: Factor of each stain, broadcast to (n, 3); 1 changes nothing.
        shift: Added to each stain's optical density, broadcast to (n, 3); 0 changes nothing.
    """
    pixels = check_patches(pixels)
    gains = np.broadcast_to(np.asarray(gain, dtype=float), (len(pixels), 3))
    shifts = np.broadcast_to(np.asarray(shift, dtype=float), (len(pixels), 3))
    vectors = STAINS / np.linalg.norm(STAINS, axis=1, keepdims=True)
    # In RGB densities the whole jitter is one affine map a patch: unmix, scale, mix again.
    mixing = np.linalg.inv(vectors) @ (gains[:, :, None] * vectors)  # (n, 3, 3)
    offset = (shifts @ vectors)[:, None, :]  # (n, 1, 3)
    flat = pixels.reshape(len(pixels), pixels.shape[1] * pixels.shape[2], 3)
    density = -np.log((flat.astype(np.float32) + 1) / 256)  # (n, h * w, 3), at least 0
    jittered = density @ mixing.astype(np.float32) + offset.astype(np.float32)
    return _to_uint8(256 * np.exp(-jittered) - 1).reshape(pixels.shape)


def dihedral(pixels: Pixels, element: npt.ArrayLike) -> Pixels:
    """Patches turned by ``element % 4`` quarter turns and, from element 4 on, mirrored left to right before. Exact."""
    pixels = check_patches(pixels)
    if pixels.shape[1] != pixels.shape[2]:
        raise PatchError(
            f"patches of {pixels.shape[2]} x {pixels.shape[1]} px cannot be turned; square ones are wanted."
        )
    elements = np.broadcast_to(np.asarray(element, dtype=int), (len(pixels),))
    require(bool(np.all((elements >= 0) & (elements < DIHEDRAL))), "element", "from 0 to 7", elements.tolist()[:8])
    out = np.empty_like(pixels)
    for k in range(DIHEDRAL):
        rows = elements == k
        mirrored = pixels[rows][:, :, ::-1] if k >= 4 else pixels[rows]
        out[rows] = np.rot90(mirrored, k % 4, axes=(1, 2))
    return out


def check_patches(pixels: npt.NDArray[np.generic]) -> Pixels:
    """``pixels`` if they are uint8 RGB patches (n, h, w, 3).

    Raises:
        PatchError: If they are not; the sentence names the shape and dtype found.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] != 3:
        raise PatchError(f"patches must be uint8 (n, h, w, 3), got {pixels.dtype} {pixels.shape}.")
    return pixels  # type: ignore[return-value]


def _to_uint8(values: npt.NDArray[np.floating]) -> Pixels:
    rounded: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return rounded
