"""Memorisation: are generated patches nearer to a training patch than real patches that were never trained on?

The ruler is real: each held-out real patch has a nearest training patch too. A generator that copies puts more than
5 % of its patches below the 5th percentile of those distances. The reverse does not hold: the held-out tissue may
differ from the training tissue, and fakes of the training tissue are then nearer without being copies, so look at the
pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoforensics.slides import PatchError

from .augment import orient
from .fidelity import Features, squared_distances

PERCENTILE = 5.0
ORIENTATIONS = 8


@dataclass(frozen=True)
class Nearest:
    """Of each query its nearest target: distance, which patch it is, and in which orientation; each of shape (n,)."""

    distance: NDArray[np.float64]
    index: NDArray[np.int64]
    orientation: NDArray[np.int64]


@dataclass(frozen=True)
class Memorisation:
    """Distances to the nearest training patch, of fakes and of held-out reals.

    Attributes:
        fake: Nearest training patches of the fakes.
        held_out: Distances of the held-out reals, shape (m,).
        threshold: The 5th percentile of ``held_out``.
        share_below: Of the fakes, 0 to 1; 0.05 is what the reals have.
    """

    fake: Nearest
    held_out: NDArray[np.float64]
    threshold: float
    share_below: float

    def to_json(self) -> dict[str, Any]:
        """The figures without the patches."""
        return {
            "percentile": PERCENTILE, "threshold": self.threshold, "share_below": self.share_below,
            "nearest_fake": float(self.fake.distance.min()), "median_fake": float(np.median(self.fake.distance)),
            "nearest_held_out": float(self.held_out.min()), "median_held_out": float(np.median(self.held_out)),
        }  # fmt: skip


def all_orientations(patches: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Patches (n, h, h, 3) in their eight orientations, (n * 8, h, h, 3): those of one patch stand together."""
    return np.stack([orient(patch, code) for patch in patches for code in range(ORIENTATIONS)])


def nearest(queries: Features, targets: Features) -> Nearest:
    """Of each query (n, d) the nearest target, where targets (m * 8, d) are features of `all_orientations`.

    Distances are those of the features brought to length 1, from 0 to 2: else a patch of little contrast, with short
    features, is everybody's neighbour.

    Raises:
        PatchError: If a side is empty, or the targets are not eight for each patch.
    """
    if not len(queries) or not len(targets) or len(targets) % ORIENTATIONS:
        raise PatchError(f"patches in eight orientations are wanted, got {len(queries)} and {len(targets)} features.")
    squares = squared_distances(_unit(queries), _unit(targets))
    best = squares.argmin(1)
    distance = np.sqrt(squares[np.arange(len(squares)), best])
    return Nearest(distance, best // ORIENTATIONS, best % ORIENTATIONS)


def memorisation(fake: Features, held_out: Features, training: Features) -> Memorisation:
    """Compare the fakes' nearest training patches with those of held-out reals.

    Args:
        fake: Features (n, d).
        held_out: Features (m, d) of real patches that the generator was not trained on.
        training: Features (k * 8, d) of `all_orientations` of training patches.

    Raises:
        PatchError: If a side is empty, or the training patches are not in eight orientations.
    """
    found, reference = nearest(fake, training), nearest(held_out, training).distance
    threshold = float(np.percentile(reference, PERCENTILE))
    return Memorisation(found, reference, threshold, float((found.distance < threshold).mean()))


def _unit(features: Features) -> NDArray[np.float64]:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(lengths, np.finfo(np.float32).tiny), np.float64)
