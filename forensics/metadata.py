"""The control that opens no image: how well the manifest and the files' sizes alone tell fakes from reals.

A sound comparison leaves it at 0.5. Fields that name where a patch comes from (its slide, its generator, its place) are
not asked: they differ by construction and are no trace in the file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from histoforensics.slides import PatchError, PatchSet

from .detector import FAKE, REAL
from .linear import fit_logistic
from .metrics import AucInterval, cluster_bootstrap_auc
from .placebo import deal_folds
from .splits import real_groups

NUMBERS = (
    "file_bytes",
    "png_bytes",
    "width",
    "height",
    "mpp",
    "level",
    "tissue_fraction",
    "grid_phase_x",
    "grid_phase_y",
    "resample_factor",
)
WORDS = ("file_ending", "codec", "jpeg_tables_digest", "jpeg_subsampling", "resample_kernel")
FOLDS = 2
PENALTY = 1.0
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class MetadataControl:
    """What the metadata alone tell, on patches whose group did not teach it."""

    found: AucInterval
    scores: Floats  # (n,) held-out, reals first, higher is more fake
    fields: tuple[str, ...]  # that differ between any two patches, so that they could tell


def metadata_features(patches: PatchSet) -> pd.DataFrame:
    """One row a patch: the manifest's fields that a file carries with it, the file's bytes and its ending.

    Raises:
        PatchError: If a file is missing.
    """
    files = [patches.root / str(file) for file in patches.table["file"]]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise PatchError(f"{patches.root.name}: {len(missing)} files are missing, the first is {missing[0]}.")
    own = pd.DataFrame(
        {
            "file_bytes": [float(file.stat().st_size) for file in files],
            "file_ending": [file.suffix.lower() for file in files],
        }
    )
    told = [name for name in (*NUMBERS, *WORDS) if name not in own]
    return pd.concat([own, patches.table[told].reset_index(drop=True)], axis=1)[[*NUMBERS, *WORDS]]


def metadata_control(real: PatchSet, fake: PatchSet, *, seed: int = 0, n_boot: int = 2000) -> MetadataControl:
    """AUC, with its interval, of a logistic regression on the metadata, each patch judged by a fold without its group.

    Args:
        real: Real patches; their groups are patients, slides or blocks, as far as the manifest names them.
        fake: Fakes; each is its own group.
        seed: Of folds and resampling.
        n_boot: Resamples.

    Raises:
        PatchError: If a file is missing, or a class has fewer than 4 groups.
    """
    table = pd.concat([metadata_features(real), metadata_features(fake)], ignore_index=True)
    labels = np.repeat([REAL, FAKE], [len(real), len(fake)])
    groups = np.concatenate([np.char.add("real ", real_groups(real.table)[1]), [f"fake {i}" for i in range(len(fake))]])
    rng = np.random.default_rng(seed)
    fold = np.empty(len(labels), dtype=np.intp)
    for label in (REAL, FAKE):  # each class apart, so that both are in both folds
        fold[labels == label] = deal_folds(groups[labels == label], FOLDS, rng)
    x, names = _numbers(table)
    scores = np.empty(len(labels))
    for k in range(FOLDS):
        rows = fold == k
        model = fit_logistic(x[~rows], labels[~rows], penalties=(PENALTY,))
        scores[rows] = x[rows] @ model.weights + model.bias
    found = cluster_bootstrap_auc(labels, scores, groups, n_boot, seed)
    return MetadataControl(found=found, scores=scores, fields=names)


def _numbers(table: pd.DataFrame) -> tuple[Floats, tuple[str, ...]]:
    """Standardised numbers (n, d) of the table, and which of its fields vary; what is missing is a value of its own."""
    columns, names = [], []
    for name in table:
        values = table[name]
        if str(name) in NUMBERS:
            known = values.notna().to_numpy()
            number = values.astype("Float64").to_numpy(dtype=float, na_value=np.nan)
            filled = np.where(known, number, number[known].mean() if known.any() else 0.0)
            parts = [filled, (~known).astype(float)]
        else:
            words = values.astype("string").fillna("not told").to_numpy(dtype=str)
            parts = [(words == word).astype(float) for word in np.unique(words)]
        varied = [part for part in parts if np.ptp(part) > 0]
        columns += [(part - part.mean()) / part.std() for part in varied]
        names += [str(name)] if varied else []
    if not columns:
        return np.zeros((len(table), 1)), ()
    return np.stack(columns, axis=1), tuple(names)
