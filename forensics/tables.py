"""Score maps as tables: Parquet with every patch, a CSV as wsinfer writes it, coordinates as CLAM does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py  # type: ignore[import-untyped]
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from .scoremap import OK, STATUS_NAMES, ScoreMap

CHUNK_ROWS = 250_000  # patches in memory as a table at a time

PATCH_COLUMNS = ("x_level0", "y_level0", "width", "mpp", "status")  # then one score column a detector


def patch_tables(scores: ScoreMap) -> Iterator[pd.DataFrame]:
    """Every patch of the lattice, raster order, in parts: x_level0, y_level0, width, mpp, status, one score a detector.

    A score is NaN unless the status is ok.
    """
    rows, columns = scores.status.shape
    step = max(1, CHUNK_ROWS // max(columns, 1))
    stride = scores.lattice.stride_px
    for start in range(0, max(rows, 1), step):
        status = scores.status[start : start + step]
        y, x = np.indices(status.shape, dtype=np.int64)
        yield pd.DataFrame(
            {
                "x_level0": x.ravel() * stride,
                "y_level0": (y.ravel() + start) * stride,
                "width": np.full(status.size, scores.lattice.patch_px, np.int32),
                "mpp": np.full(status.size, scores.mpp, np.float64),
                "status": pd.Categorical.from_codes(status.ravel(), pd.Index(STATUS_NAMES)),
                **{label: grid[start : start + step].ravel() for label, grid in scores.scores.items()},
            }
        )


def write_parquet(path: Path, scores: ScoreMap) -> None:
    """Write :func:`patch_tables` as one Parquet file."""
    writer: pq.ParquetWriter | None = None
    try:
        for part in patch_tables(scores):
            table = pa.Table.from_pandas(part, preserve_index=False)
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def write_wsinfer_csv(path: Path, scores: ScoreMap) -> None:
    """Write the judged patches: minx, miny, width, height, level-0 pixels, and prob_fake (with several: one each)."""
    labels = list(scores.scores)
    names = {label: "prob_fake" if len(labels) == 1 else f"prob_fake_{label}" for label in labels}
    for index, part in enumerate(patch_tables(scores)):
        judged = part[part["status"] == STATUS_NAMES[OK]]
        table = judged[["x_level0", "y_level0", "width"]].set_axis(["minx", "miny", "width"], axis="columns")
        table = table.assign(height=table["width"], **{names[label]: judged[label] for label in labels})
        table.to_csv(path, mode="w" if index == 0 else "a", header=index == 0, index=False, lineterminator="\n")


def write_clam_h5(path: Path, scores: ScoreMap) -> None:
    """Write the judged patches' corners as CLAM, TRIDENT and their readers expect: dataset ``coords``, int64 (n, 2)."""
    coords = np.argwhere(scores.status == OK)[:, ::-1] * scores.lattice.stride_px  # (n, 2), x before y, raster order
    with h5py.File(path, "w") as file:
        data = file.create_dataset("coords", data=coords, maxshape=(None, 2), chunks=True)
        data.attrs["patch_size"] = scores.lattice.patch_px
        data.attrs["patch_level"] = 0
        data.attrs["patch_size_level0"] = scores.lattice.patch_px
        data.attrs["patch_spacing_um_px"] = scores.mpp
        data.attrs["stride_level0"] = scores.lattice.stride_px
        data.attrs["level0_width"] = scores.lattice.width
        data.attrs["level0_height"] = scores.lattice.height
