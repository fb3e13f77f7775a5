from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from histoforensics.forensics import tables
from histoforensics.forensics.scoremap import BACKGROUND, CORRUPT, OK, ScoreMap
from histoforensics.forensics.windows import Lattice


@pytest.fixture
def scores() -> ScoreMap:
    status = np.array([[OK, BACKGROUND, OK], [CORRUPT, OK, OK]], np.uint8)
    values = np.where(status == OK, np.arange(6).reshape(2, 3) / 10, np.nan).astype(np.float32)
    return ScoreMap(Lattice(70, 50, 32, 16), 0.25, status, {"wht-lr": values})


def test_parquet_holds_every_patch_with_its_status(
    tmp_path: Path, scores: ScoreMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    for chunk in (100, 3):
        monkeypatch.setattr(tables, "CHUNK_ROWS", chunk)
        tables.write_parquet(tmp_path / "a.parquet", scores)
        table = pd.read_parquet(tmp_path / "a.parquet")
        assert list(table.columns) == [*tables.PATCH_COLUMNS, "wht-lr"]
        assert table["x_level0"].tolist() == [0, 16, 32, 0, 16, 32]
        assert table["y_level0"].tolist() == [0, 0, 0, 16, 16, 16]
        assert table["status"].tolist() == ["ok", "background", "ok", "corrupt", "ok", "ok"]
        assert (table["width"] == 32).all()
        assert (table["mpp"] == 0.25).all()
        assert table["wht-lr"].isna().tolist() == [False, True, False, True, False, False]


def test_the_csv_has_wsinfers_columns_and_only_judged_patches(
    tmp_path: Path, scores: ScoreMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "CHUNK_ROWS", 3)
    tables.write_wsinfer_csv(tmp_path / "a.csv", scores)
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines == [
        "minx,miny,width,height,prob_fake", "0,0,32,32,0.0", "32,0,32,32,0.2", "16,16,32,32,0.4", "32,16,32,32,0.5",
    ]  # fmt: skip
    two = ScoreMap(scores.lattice, 0.25, scores.status, {"a": scores.scores["wht-lr"], "b": scores.scores["wht-lr"]})
    tables.write_wsinfer_csv(tmp_path / "b.csv", two)
    assert (tmp_path / "b.csv").read_text().startswith("minx,miny,width,height,prob_fake_a,prob_fake_b\n")


def test_the_h5_file_reads_as_clams(tmp_path: Path, scores: ScoreMap) -> None:
    tables.write_clam_h5(tmp_path / "a.h5", scores)
    with h5py.File(tmp_path / "a.h5", "r") as file:
        assert file["coords"].dtype == np.int64
        assert file["coords"][:].tolist() == [[0, 0], [32, 0], [16, 16], [32, 16]]
        assert file["coords"].attrs["patch_size"] == 32
        assert file["coords"].attrs["patch_level"] == 0
        assert file["coords"].attrs["patch_spacing_um_px"] == 0.25


def test_a_slide_without_patches_gives_empty_tables(tmp_path: Path) -> None:
    for shape in ((0, 0), (0, 4)):
        empty = ScoreMap(Lattice(8, 8, 32, 16), 0.25, np.zeros(shape, np.uint8), {"a": np.zeros(shape, np.float32)})
        tables.write_parquet(tmp_path / "a.parquet", empty)
        tables.write_wsinfer_csv(tmp_path / "a.csv", empty)
        tables.write_clam_h5(tmp_path / "a.h5", empty)
        assert len(pd.read_parquet(tmp_path / "a.parquet")) == 0
        assert len(pd.read_csv(tmp_path / "a.csv")) == 0
        with h5py.File(tmp_path / "a.h5", "r") as file:
            assert file["coords"].shape == (0, 2)
