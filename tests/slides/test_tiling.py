from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from histoforensics.slides import (
    ConfigError,
    MppGrid,
    PaperGrid,
    PatchError,
    PatchSet,
    Slide,
    SlideNotFound,
    SlideUnreadable,
    encode_png,
    tile,
)
from histoforensics.slides.tiling import Step

GRID = MppGrid(mpp=0.25, patch_px=240)


def test_the_funnel_counts_what_each_filter_drops(tmp_path: Path, small_slide: Path) -> None:
    report = tile([small_slide], GRID, tmp_path / "out", min_tissue=0.5)
    assert report.funnel == (
        Step("border", 16, 0),
        Step("unreadable", 16, 0),
        Step("tissue", 8, 8),
        Step("png bytes", 8, 0),
    )
    patches = PatchSet.open(tmp_path / "out")
    assert len(patches) == report.kept == 8
    assert (patches.table["x_level0"] < 480).all()
    assert patches.card["funnel"][2] == {"name": "tissue", "kept": 8, "dropped": 8}


def test_pixels_and_provenance_are_those_of_the_slide(tmp_path: Path, small_slide: Path) -> None:
    tile([small_slide], MppGrid(mpp=0.25, patch_px=100, stride_px=300), tmp_path / "out")
    patches = PatchSet.open(tmp_path / "out")
    with Slide.open(small_slide) as slide:
        for (x, y), pixels in zip(patches.table[["x_level0", "y_level0"]].to_numpy(int), patches.pixels(), strict=True):
            np.testing.assert_array_equal(pixels, slide.read(x, y, 100, 100))
        digest = slide.codec.last.tables_digest
    row = patches.table.iloc[1]
    assert (row["x_level0"], row["grid_phase_x"], row["codec"]) == (300, 4, "jpeg")
    assert (row["jpeg_tables_digest"], row["jpeg_subsampling"], row["mpp"]) == (digest, "4:4:4", 0.25)
    assert (row["resample_factor"], row["resample_kernel"], row["label"]) == (1.0, "none", "real")
    patches.verify()


def test_shrunken_patches_claim_no_jpeg_grid(tmp_path: Path, small_slide: Path) -> None:
    tile([small_slide], MppGrid(mpp=0.5, patch_px=120), tmp_path / "out")
    row = PatchSet.open(tmp_path / "out").table.iloc[0]
    assert (row["resample_factor"], row["resample_kernel"], row["mpp"], row["codec"]) == (2.0, "lanczos", 0.5, "jpeg")
    assert row[["grid_phase_x", "jpeg_tables_digest"]].isna().all()


def test_png_size_filters_at_pillows_default_level(tmp_path: Path, small_slide: Path) -> None:
    with Slide.open(small_slide) as slide:
        sizes = [len(encode_png(slide.read(x, y, 240, 240))) for y in range(0, 960, 240) for x in range(0, 960, 240)]
    limit = sorted(sizes)[10]
    report = tile([small_slide], GRID, tmp_path / "out", min_png_bytes=limit)
    assert report.kept == sum(size >= limit for size in sizes)
    assert PatchSet.open(tmp_path / "out").table["png_bytes"].min() == limit


def test_a_dry_run_counts_the_same_and_writes_nothing(tmp_path: Path, small_slide: Path) -> None:
    dry = tile([small_slide], GRID, tmp_path / "out", min_tissue=0.5, min_png_bytes=1000, dry_run=True)
    assert not (tmp_path / "out").exists()
    assert dry.funnel == tile([small_slide], GRID, tmp_path / "out", min_tissue=0.5, min_png_bytes=1000).funnel


def destroy_tile(slide: Path, index: int) -> None:
    with tifffile.TiffFile(slide) as tiff:
        offset, size = tiff.pages[0].dataoffsets[index], tiff.pages[0].databytecounts[index]
    data = bytearray(slide.read_bytes())
    data[offset : offset + size] = bytes(size)
    slide.write_bytes(data)


@pytest.mark.parametrize(
    "grid", [MppGrid(mpp=0.25, patch_px=200, stride_px=60), MppGrid(mpp=0.5, patch_px=96, stride_px=40)]
)
def test_patches_that_overlap_are_read_together_and_come_as_if_alone(
    tmp_path: Path, small_slide: Path, grid: MppGrid
) -> None:
    destroy_tile(small_slide, 5)
    report = tile([small_slide], grid, tmp_path / "out")
    table = PatchSet.open(tmp_path / "out")
    found = dict(zip(zip(table.table["x_level0"], table.table["y_level0"], strict=True), table.pixels(), strict=True))
    with Slide.open(small_slide) as slide:
        layout, alone, broken = grid.layout(slide), {}, []
        assert max(len(run) for run in layout.runs(slide)) > 4
        for index, (x, y) in enumerate(layout.positions.tolist()):
            try:
                alone[x, y] = layout.read(slide, index)
            except SlideUnreadable:
                broken.append([x, y])
    assert report.slides[0]["unreadable"] == broken
    assert broken
    assert found.keys() == alone.keys()
    assert all(np.array_equal(found[place], alone[place]) for place in alone)


def test_a_broken_tile_is_dropped_counted_and_placed(tmp_path: Path, small_slide: Path) -> None:
    destroy_tile(small_slide, 5)
    report = tile([small_slide], GRID, tmp_path / "out")
    assert report.funnel[1] == Step("unreadable", 15, 1)
    assert report.slides[0]["unreadable"] == [[240, 240]]


def test_equal_names_are_told_apart_and_patients_read_from_tcga_names(
    tmp_path: Path, small_slide: Path, texture: np.ndarray
) -> None:
    from histoforensics.slides.synthetic import write_svs

    name = "TCGA-AA-1234-01Z-00-DX1.svs"
    (tmp_path / "a").mkdir()
    shutil.copy(small_slide, tmp_path / "a" / name)
    other = write_svs(tmp_path / "b" / name, texture)
    report = tile([tmp_path / "a" / name, other], GRID, tmp_path / "out")
    patches = PatchSet.open(tmp_path / "out")
    assert len({slide["name"] for slide in report.slides}) == 2
    assert patches.table["source_slide"].nunique() == 2
    assert set(patches.table["patient"]) == {"TCGA-AA-1234"}
    assert len(set(patches.table["file"])) == len(patches) == 32


def test_bad_input_leaves_nothing(tmp_path: Path, small_slide: Path) -> None:
    out = tmp_path / "out"
    for slides, options, error, message in (
        ([], {}, ConfigError, "slides must be at least one file, got 0"),
        ([tmp_path / "gone.svs"], {}, SlideNotFound, r"gone\.svs: no such file"),
        ([small_slide], {"min_tissue": 2}, ConfigError, "min_tissue must be from 0 to 1, got 2"),
        ([small_slide], {"min_png_bytes": -1}, ConfigError, "min_png_bytes must be at least 0"),
        ([small_slide], {"threads": 0}, ConfigError, "threads must be at least 1, got 0"),
        (
            [small_slide],
            {"min_png_bytes": 10**9},
            PatchError,
            "no patch is left of 16 grid cells: png bytes dropped 16",
        ),
    ):
        with pytest.raises(error, match=message):
            tile(slides, GRID, out, **options)  # type: ignore[arg-type]
        assert not out.exists()
    with pytest.raises(ConfigError, match="out must be a folder, got None"):
        tile([small_slide], GRID, None)


def test_progress_reaches_its_end(tmp_path: Path, small_slide: Path) -> None:
    seen: list[tuple[int, int]] = []
    tile(
        [small_slide, small_slide],
        GRID,
        None,
        dry_run=True,
        progress=lambda done, total, note="": seen.append((done, total)),
    )
    assert seen == [(i, 32) for i in range(1, 33)]


def test_the_sample_slide_gives_the_counts_measured_by_hand(sample: Path) -> None:
    """33 disjoint 256-px patches of at least half tissue, 134 at stride 128, counted apart from this code."""
    for stride, wanted in ((None, 33), (128, 134)):
        grid = MppGrid(mpp=0.499, patch_px=256, stride_px=stride)
        assert tile([sample], grid, None, min_tissue=0.5, dry_run=True).kept == wanted
    paper = tile([sample], PaperGrid(level="max"), None, dry_run=True)
    assert paper.funnel[0] == Step("border", 12 * 17, 15 * 20 - 12 * 17)


@pytest.mark.parametrize("min_png_bytes", [0, 1000])
def test_any_number_of_threads_gives_the_same_patch_set(tmp_path: Path, small_slide: Path, min_png_bytes: int) -> None:
    reports = [
        tile([small_slide], GRID, tmp_path / str(n), min_tissue=0.3, min_png_bytes=min_png_bytes, threads=n)
        for n in (1, 3)
    ]
    assert reports[0].funnel == reports[1].funnel
    one, three = (
        {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.*") if file.name != "card.json"}
        for folder in (tmp_path / "1", tmp_path / "3")
    )
    assert one == three
    assert len(one) > 1
