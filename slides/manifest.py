"""The manifest: one row a patch, with where it came from and everything that happened to its pixels."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import PatchError

if TYPE_CHECKING:
    import pandas as pd

MANIFEST = "manifest.parquet"
CARD = "card.json"
REAL_NAME, FAKE_NAME = "real", "fake"  # the words for forensics.REAL, FAKE = 0, 1

COLUMNS: Mapping[str, str] = {
    "id": "string",
    "file": "string",  # below the patch set's folder, with forward slashes
    "sha256": "string",  # of the pixels, not of the file
    "label": "string",  # real, fake, or missing
    "source_slide": "string",
    "patient": "string",
    "block": "string",  # row-column in the block split
    "x_level0": "Int64",
    "y_level0": "Int64",
    "width": "Int64",
    "height": "Int64",
    "mpp": "Float64",
    "level": "Int64",
    "tissue_fraction": "Float64",
    "png_bytes": "Int64",  # at Pillow's default level, without the text chunk
    "codec": "string",
    "jpeg_tables_digest": "string",
    "jpeg_subsampling": "string",
    "grid_phase_x": "Int64",
    "grid_phase_y": "Int64",
    "resample_factor": "Float64",
    "resample_kernel": "string",
    "generator": "string",
    "checkpoint_sha256": "string",
    "seed": "Int64",
    "psi": "Float64",
    "noise_mode": "string",
}


def build_manifest(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A table with the manifest's columns and types; what a row does not say is missing.

    Raises:
        PatchError: If a row has a column that the manifest lacks.
    """
    import pandas as pd  # 100 MB with pyarrow, which a scan's workers are spared

    check_columns({key for row in rows for key in row})
    return pd.DataFrame(
        {name: pd.array([row.get(name) for row in rows], dtype=kind) for name, kind in COLUMNS.items()}  # type: ignore[call-overload]
    )


def check_columns(names: Iterable[str]) -> None:
    """Nothing, if the manifest has every column named.

    Raises:
        PatchError: If it lacks one.
    """
    unknown = sorted(set(names) - COLUMNS.keys())
    if unknown:
        raise PatchError(
            f"the manifest has no column {', '.join(map(repr, unknown))}; its columns are {list(COLUMNS)}."
        )


def to_parquet(table: pd.DataFrame) -> bytes:
    """The table as a Parquet file."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def read_manifest(folder: Path) -> pd.DataFrame:
    """The manifest of a patch set.

    Raises:
        PatchError: If it is broken, lacks a column, or names a file outside its folder.
    """
    import pandas as pd

    try:
        table = pd.read_parquet(folder / MANIFEST)
    except (OSError, ValueError) as err:
        raise PatchError(f"{folder.name}/{MANIFEST}: not a readable Parquet file ({err}).") from err
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise PatchError(f"{folder.name}/{MANIFEST}: lacks the columns {missing}; write it with PatchSetWriter.")
    table = table[list(COLUMNS)].astype(dict(COLUMNS))
    for file in table["file"]:
        if pd.isna(file) or Path(file).is_absolute() or ".." in Path(file).parts:
            raise PatchError(f"{folder.name}/{MANIFEST}: the file name {file!r} leads out of the folder.")
    return table
