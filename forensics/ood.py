"""Out of distribution: reasons not to trust a detector on a patch, whatever score it gives.

Four checks, cheapest first: the patch's size, its resolution where it is known, its sharpness against the range that
calibrated, and the distance of a few colour and texture numbers from everything that calibrated.

References: Pech-Pacheco et al. 2000 (variance of the Laplacian); Lee et al. 2018, arXiv:1807.03888, eq. 2 (distance to
the nearest class mean under one shared covariance); Ledoit & Wolf 2004.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from histoforensics.slides import PatchError

from .leaks import as_groups

MPP_TOLERANCE = 0.1  # beyond it a detector sees structures of another size than it was trained on
OCTAVES = 4
FOLDS = 5
KNOWN_SHARE = 0.99  # of held-out calibration patches that count as known
SLACK = 0.1  # of the calibrated range of sharpness, on either side
FEWEST = 8  # patches of a class that a domain is measured from
FLOOR = 1e-2  # grey levels squared: a flat patch has no sharpness

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Domain:
    """What the calibration patches looked like, both classes; plain numbers for the card."""

    sharpness: tuple[float, float]  # log10 of the Laplacian's variance, smallest and largest with some slack
    means: tuple[tuple[float, ...], ...]  # of each class, (2, d)
    precision: tuple[tuple[float, ...], ...]  # inverse covariance within classes, (d, d)
    limit: float  # distance that 99 % of calibration patches keep when their group is held out
    n: int

    @classmethod
    def measure(cls, real: Pixels, fake: Pixels, real_groups: npt.NDArray[Any] | None = None) -> Domain | None:
        """From the calibration patches, uint8 (n, h, w, 3); None if a class has fewer than 8, too few to tell.

        Args:
            real: Reals.
            fake: Fakes.
            real_groups: Block, slide or patient of each real (n,); a whole group is held out when the limit is set.
        """
        if min(len(real), len(fake)) < FEWEST:
            return None
        features = np.concatenate([appearance(real), appearance(fake)])
        labels = np.repeat([0, 1], [len(real), len(fake)])
        units = np.concatenate([as_groups(real_groups, len(real)).astype(str), np.arange(len(fake)).astype(str)])
        sharp = np.concatenate([sharpness(real), sharpness(fake)])
        slack = SLACK * float(np.ptp(sharp))
        means, precision = _gaussian(features, labels)
        held = np.sort(_held_out(features, labels, units))
        rank = min(len(held), int(np.ceil(KNOWN_SHARE * (len(held) + 1))))
        return cls(
            sharpness=(float(sharp.min()) - slack, float(sharp.max()) + slack),
            means=tuple(tuple(row) for row in means.tolist()),
            precision=tuple(tuple(row) for row in precision.tolist()),
            limit=float(held[rank - 1]),
            n=len(labels),
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Domain:
        """What ``dataclasses.asdict`` made of one, after JSON."""
        rows = {name: tuple(tuple(row) for row in data[name]) for name in ("means", "precision")}
        return cls(**{**data, **rows, "sharpness": tuple(data["sharpness"])})

    def distance(self, pixels: Pixels) -> Floats:
        """Distance (n,) of patches (n, h, w, 3) to the nearest class, in units of the calibration's spread."""
        return _distance(appearance(pixels), np.asarray(self.means), np.asarray(self.precision))

    def doubts(self, pixels: Pixels) -> list[str | None]:
        """Why each patch (n, h, w, 3) is unlike the calibration's, or None."""
        low, high = self.sharpness
        out: list[str | None] = []
        for sharp, far in zip(sharpness(pixels), self.distance(pixels), strict=True):
            if sharp < low:
                out.append(f"blurrier than anything calibrated on (log10 Laplacian variance {sharp:.2f} < {low:.2f})")
            elif sharp > high:
                out.append(f"sharper than anything calibrated on (log10 Laplacian variance {sharp:.2f} > {high:.2f})")
            elif far > self.limit:
                out.append(f"colour and texture unlike anything calibrated on (distance {far:.1f} > {self.limit:.1f})")
            else:
                out.append(None)
        return out


def size_doubt(height: int, width: int, patch_px: int) -> str | None:
    """The reason where a patch does not have the judged size."""
    if (height, width) == (patch_px, patch_px):
        return None
    return f"{width} x {height} px, but this detector judges {patch_px} x {patch_px} px"


def mpp_doubt(mpp: float | None, trained_at: float | None) -> str | None:
    """The reason where both resolutions are known, um/px, and differ by more than a tenth."""
    if mpp is None or trained_at is None or np.isnan(mpp) or abs(mpp / trained_at - 1) <= MPP_TOLERANCE:
        return None
    return f"{mpp:.3g} um/px, but this detector was trained at {trained_at:.3g} um/px"


def as_mpps(mpp: float | Sequence[float | None] | None, n: int) -> list[float | None]:
    """One resolution a patch from one for all, one each, or none known.

    Raises:
        PatchError: If they are not one each.
    """
    if mpp is None or isinstance(mpp, float | int):
        return [None if mpp is None else float(mpp)] * n
    if len(mpp) != n:
        raise PatchError(f"{n} patches need one resolution (um/px) for all or one each, got {len(mpp)}.")
    return [None if one is None else float(one) for one in mpp]


def sharpness(pixels: Pixels) -> Floats:
    """log10 of the variance of the luma's 4-neighbour Laplacian, (n,), of patches (n, h, w, 3): low is blurred."""
    grey = _grey(pixels)
    laplacian = (
        4 * grey[:, 1:-1, 1:-1] - grey[:, :-2, 1:-1] - grey[:, 2:, 1:-1] - grey[:, 1:-1, :-2] - grey[:, 1:-1, 2:]
    )
    told: Floats = np.log10(laplacian.var(axis=(1, 2), dtype=np.float64) + FLOOR)
    return told


def appearance(pixels: Pixels) -> Floats:
    """Ten numbers a patch (n, 10): mean and spread of R, G, B, and the luma's log energy in four octaves."""
    flat = pixels.reshape(len(pixels), -1, 3)
    colour = [flat.mean(axis=1), flat.std(axis=1)]
    grey, energies = _grey(pixels), []
    for _ in range(OCTAVES):
        n, height, width = grey.shape
        blocks = grey[:, : height // 2 * 2, : width // 2 * 2].reshape(n, height // 2, 2, width // 2, 2)
        grey = blocks.mean(axis=(2, 4))
        detail = blocks - grey[:, :, None, :, None]
        energies.append(np.log10((detail**2).mean(axis=(1, 2, 3, 4), dtype=np.float64) + FLOOR))
    return np.concatenate([*colour, np.stack(energies, axis=1)], axis=1)


def _grey(pixels: Pixels) -> npt.NDArray[np.float32]:
    import torch  # which programs that only read cards are spared

    from .luma import luma

    grey: npt.NDArray[np.float32] = luma(torch.from_numpy(np.ascontiguousarray(pixels))).numpy()
    return grey


def _gaussian(features: Floats, labels: npt.NDArray[np.integer[Any]]) -> tuple[Floats, Floats]:
    """Class means (2, d) and the shrunk inverse covariance (d, d) within classes."""
    from sklearn.covariance import LedoitWolf  # 100 MB, which programs that only judge are spared

    means = np.stack([features[labels == c].mean(axis=0) for c in (0, 1)])
    centred = features - means[labels]
    spread = centred.std(axis=0)
    spread = np.where(spread > 1e-9, spread, 1.0)  # shrinkage pulls towards a multiple of one: units must not matter
    scaled = LedoitWolf(assume_centered=True).fit(centred / spread).precision_
    return means, scaled / np.outer(spread, spread)


def _distance(features: Floats, means: Floats, precision: Floats) -> Floats:
    apart = features[:, None, :] - means[None]  # (n, 2, d)
    squared = np.einsum("ncd,de,nce->nc", apart, precision, apart)
    nearest: Floats = np.sqrt(np.maximum(squared, 0)).min(axis=1)
    return nearest


def _held_out(features: Floats, labels: npt.NDArray[np.integer[Any]], units: npt.NDArray[np.str_]) -> Floats:
    """Distance of each patch from the others, its own group and those dealt with it left out."""
    fold = np.empty(len(labels), dtype=int)
    for c in (0, 1):
        names, codes = np.unique(units[labels == c], return_inverse=True)
        fold[labels == c] = codes % FOLDS if len(names) > 1 else np.arange(len(codes)) % FOLDS
    out = np.empty(len(labels))
    for k in np.unique(fold):
        out[fold == k] = _distance(features[fold == k], *_gaussian(features[fold != k], labels[fold != k]))
    return out
