"""Association of what is written about patches with their label: a field that knows the label lets a detector cheat.

References: Cramér 1946, section 21.9; Bergsma 2013, J. Korean Stat. Soc. 42 (correction of its bias, which in small
samples makes fields without any association look associated).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from histoforensics.slides import PatchError

QUANTILE_BINS = 5
MOST_VALUES = 10  # numbers with more different values are binned
MISSING = "not told"
IDENTITY = ("id", "file", "sha256", "label")  # name a patch, or are the label


class Role(StrEnum):
    """What it means where a field goes with the label."""

    HISTORY = "pixel history"  # the pixels differ by their past: not fair
    SCALE = "scale"  # structures have another size: not fair
    CONTENT = "content"  # what is in the pictures; a detector may use it
    FILE = "file"  # stands in the file and not in its pixels; a detector never sees it
    ORIGIN = "origin"  # says where a patch comes from, so it differs wherever one class is generated


ROLES: dict[str, Role] = {
    **dict.fromkeys(("codec", "jpeg_tables_digest", "jpeg_subsampling", "grid_phase_x", "grid_phase_y",
                     "resample_factor", "resample_kernel", "file_lossy", "file_jpeg_tables",
                     "file_jpeg_subsampling"), Role.HISTORY),
    "mpp": Role.SCALE,
    **dict.fromkeys(("width", "height", "tissue_fraction", "png_bytes", "file_bytes"), Role.CONTENT),
    **dict.fromkeys(("file_format", "file_ending", "file_mode", "file_png_chunks", "file_icc", "file_exif"), Role.FILE),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Association:
    """How far one field tells real from fake."""

    field: str
    role: Role
    v: float  # Cramér's V without its bias: 0 is nothing, 1 tells the label
    p: float  # chi-square; not corrected for the number of fields
    values: int  # different ones, after binning
    real: str  # the commonest among reals, with its share
    fake: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"field": self.field, "role": self.role.value, "v": self.v, "p": self.p, "values": self.values,
                "real": self.real, "fake": self.fake}  # fmt: skip


def cramers_v(values: npt.NDArray[Any], labels: npt.NDArray[np.integer[Any]]) -> tuple[float, float]:
    """Bias-corrected Cramér's V of ``values`` (n,) with ``labels`` (n,), from 0 to 1, and its chi-square p.

    A constant goes with nothing, and a value that every patch has for itself tells nothing either: V is 0.

    Raises:
        PatchError: If the shapes differ or a class is missing.

    >>> cramers_v(np.array(["png", "png", "jpg", "jpg"] * 10), np.array([0, 0, 1, 1] * 10))[0]
    1.0
    """
    values, labels = np.asarray(values), np.asarray(labels)
    if values.shape != labels.shape or len(np.unique(labels)) != 2:
        raise PatchError(f"an association needs one label a value and two classes, got {values.shape}, {labels.shape}.")
    _, rows = np.unique(values.astype(str), return_inverse=True)
    counts = np.zeros((rows.max() + 1, 2), dtype=np.int64)
    np.add.at(counts, (rows, (labels == labels.max()).astype(int)), 1)
    if len(counts) == 1:
        return 0.0, 1.0
    found = stats.chi2_contingency(counts, correction=False)
    n, r, k = len(values), len(counts), 2
    phi2 = max(0.0, found.statistic / n - (r - 1) * (k - 1) / (n - 1))
    least = min(r - (r - 1) ** 2 / (n - 1), k - (k - 1) ** 2 / (n - 1)) - 1
    v = np.sqrt(phi2 / least) if least > 1e-9 else 0.0
    return float(round(min(1.0, v), 12)), float(found.pvalue)


def associate(real: pd.DataFrame, fake: pd.DataFrame) -> list[Association]:
    """The association of every field of two tables with which one a row is in, strongest first within each role.

    Numbers with many values are cut at five quantiles of both tables together; a missing value is a value of its own.
    """
    both = pd.concat([real, fake], ignore_index=True)
    labels = np.repeat([0, 1], [len(real), len(fake)])
    found = []
    for name in both.columns:
        if name in IDENTITY or both[name].isna().all():
            continue
        values = levels(both[name])
        v, p = cramers_v(values, labels)
        found.append(
            Association(
                field=str(name), role=ROLES.get(str(name), Role.ORIGIN), v=v, p=p, values=len(set(values)),
                real=_commonest(values[labels == 0]), fake=_commonest(values[labels == 1]),
            )
        )  # fmt: skip
    return sorted(found, key=lambda one: (list(Role).index(one.role), -one.v, one.field))


def levels(column: pd.Series[Any]) -> npt.NDArray[np.str_]:
    """A column as text (n,): categories as they are, many-valued numbers as ranges, missing ones as such."""
    known = column.dropna()
    if pd.api.types.is_numeric_dtype(known) and not pd.api.types.is_bool_dtype(known) and known.nunique() > MOST_VALUES:
        numbers = known.astype(float)
        edges = np.unique(np.quantile(numbers, np.linspace(0, 1, QUANTILE_BINS + 1)))
        which = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, max(0, len(edges) - 2))
        text = pd.Series([f"{edges[i]:.4g} to {edges[min(i + 1, len(edges) - 1)]:.4g}" for i in which], known.index)
    else:
        text = known.astype(str)
    whole: npt.NDArray[np.str_] = text.reindex(column.index).fillna(MISSING).to_numpy(dtype=str)
    return whole


def _commonest(values: npt.NDArray[np.str_]) -> str:
    names, counts = np.unique(values, return_counts=True)
    return f"{names[counts.argmax()]} ({100 * counts.max() / len(values):.0f} %)"
