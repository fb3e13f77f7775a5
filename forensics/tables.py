"""Score maps as tables: Parquet with every patch, a CSV as wsinfer writes it, coordinates as CLAM does.

A worker that scans is spared pandas, 50 MB. Pyarrow loads it wherever it converts an array, so its columns are made
from the arrays' own memory.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py  # type: ignore[import-untyped]
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .scoremap import OK, STATUS_NAMES, ScoreMap

CHUNK_ROWS = 50_000  # patches in memory as a table at a time

PATCH_COLUMNS = ("x_level0", "y_level0", "width", "mpp", "status")  # then one score column a detector


def patch_tables(scores: ScoreMap) -> Iterator[pa.Table]:
    """Every patch of the lattice, raster order, in parts: x_level0, y_level0, width, mpp, status, one score a detector.

    A score is missing unless the status is ok.
    """
    rows, columns = scores.status.shape
    step = max(1, CHUNK_ROWS // max(columns, 1))
    stride = scores.lattice.stride_px
    for start in range(0, max(rows, 1), step):
        status = scores.status[start : start + step]
        places = np.indices(status.shape, dtype=np.int64) * stride  # y, then x
        columns_of = {
            "x_level0": _column(places[1]),
            "y_level0": _column(places[0] + start * stride),
            "width": _column(np.full(status.size, scores.lattice.patch_px, np.int32)),
            "mpp": _column(np.full(status.size, scores.mpp, np.float64)),
            "status": pa.DictionaryArray.from_arrays(_column(status.astype(np.int8)), _words(STATUS_NAMES)),
        }
        columns_of |= {label: _column(grid[start : start + step]) for label, grid in scores.scores.items()}
        yield pa.Table.from_arrays(list(columns_of.values()), names=list(columns_of))


def write_parquet(path: Path, scores: ScoreMap) -> None:
    """Write :func:`patch_tables` as one Parquet file."""
    writer: pq.ParquetWriter | None = None
    try:
        for table in patch_tables(scores):
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def write_wsinfer_csv(path: Path, scores: ScoreMap) -> None:
    """Write the judged patches: minx, miny, width, height, level-0 pixels, and prob_fake (with several: one each)."""
    labels = list(scores.scores)
    names = ["prob_fake"] if len(labels) == 1 else [f"prob_fake_{label}" for label in labels]
    stride, side = scores.lattice.stride_px, scores.lattice.patch_px
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["minx", "miny", "width", "height", *names])
        for row, judged in enumerate(scores.status == OK):  # row by row, so that memory does not grow with the slide
            columns = np.flatnonzero(judged)
            probabilities = [scores.scores[label][row, columns].astype(str).tolist() for label in labels]
            for column, *values in zip(columns.tolist(), *probabilities, strict=True):
                writer.writerow([column * stride, row * stride, side, side, *values])


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


def _column(values: NDArray[np.generic]) -> pa.Array:
    """A column of numbers, any shape, raster order; NaN is missing."""
    flat = np.ascontiguousarray(values).reshape(-1)
    kind = pa.from_numpy_dtype(flat.dtype)
    missing = np.isnan(flat) if flat.dtype.kind == "f" else np.zeros(0, bool)
    known = pa.py_buffer(np.packbits(~missing, bitorder="little")) if missing.any() else None
    return pa.Array.from_buffers(kind, flat.size, [known, pa.py_buffer(flat)])


def _words(words: Sequence[str]) -> pa.Array:
    ends = np.cumsum([0, *(len(word.encode()) for word in words)]).astype(np.int32)
    return pa.StringArray.from_buffers(len(words), pa.py_buffer(ends), pa.py_buffer("".join(words).encode()))
