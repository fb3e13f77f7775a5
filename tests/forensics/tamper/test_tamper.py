"""Tampered slides, read back from their files."""

from __future__ import annotations

import json
import tracemalloc
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from histoforensics.forensics import tamper_truth
from histoforensics.forensics.tamper import TamperConfig, place_regions, tamper
from histoforensics.forensics.tamper_donors import PatchDonor, open_donor
from histoforensics.forensics.tamper_file import description
from histoforensics.forensics.tamper_pyramid import Pyramid, level_sizes, shrink
from histoforensics.forensics.tamper_regions import Region
from histoforensics.forensics.tamper_truth import read_outlines
from histoforensics.forensics.tamper_view import Splice, TamperedView
from histoforensics.slides import CodecError, ConfigError, PatchError, PatchSet, PatchSetWriter, Slide
from histoforensics.slides.synthetic import GLASS, purple_tissue, write_svs


@pytest.fixture(scope="module")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> PatchSet:
    folder = tmp_path_factory.mktemp("fakes") / "gan"
    with PatchSetWriter(folder, card={}) as writer:
        for i in range(6):
            patch = purple_tissue((128, 128), np.random.default_rng(50 + i))[:, :, ::-1]
            writer.add(np.ascontiguousarray(patch), label="fake", generator="gan", seed=i)
    return PatchSet.open(folder)


def _donor(fakes: PatchSet) -> PatchDonor:
    return PatchDonor(fakes, np.random.default_rng(0))


@cache
def _image() -> np.ndarray:
    image = purple_tissue((810, 1050), np.random.default_rng(1))
    image[:, :200] = GLASS
    return image


def _slide(path: Path, **options: object) -> Path:
    return write_svs(path, _image(), **options)  # type: ignore[arg-type]


CODECS = [
    {"quality": 30, "sampling": "4:4:4", "transform": "rgb", "tile_px": 240},
    {"quality": 70, "sampling": "4:2:0", "transform": "ycbcr", "tile_px": 256},
    {"quality": 70, "sampling": "4:2:2", "transform": "ycbcr", "tile_px": 240},
]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec["sampling"])
def test_a_tampered_slide_reads_as_the_original_save_where_it_was_tampered(
    tmp_path: Path, fakes: PatchSet, codec: dict[str, object]
) -> None:
    path = _slide(tmp_path / "a.svs", **codec)
    config = TamperConfig(regions=2, sizes_px=(150, 260), seed=4)
    report = tamper(path, _donor(fakes), config, tmp_path / "out")
    with Slide.open(path) as before, Slide.open(report.slide) as after:
        assert after.dimensions == before.dimensions
        assert after.mpp == pytest.approx(before.mpp, rel=1e-6)
        assert after.codec == before.codec
        old, new = (slide.read(0, 0, *slide.dimensions) for slide in (before, after))
    mask = np.array(Image.open(tmp_path / "out" / "mask.png"))
    touched = np.zeros_like(mask)
    edge = int(str(codec["tile_px"]))
    for column, row in report.log["recoded_tiles"]:
        touched[row * edge : (row + 1) * edge, column * edge : (column + 1) * edge] = True
    assert touched[mask].all()
    np.testing.assert_array_equal(new[~touched], old[~touched])
    assert (new != old)[mask].mean() > 0.8
    assert mask.sum() == sum(region.area_px for region in report.regions)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec["sampling"])
def test_what_is_read_in_memory_equals_what_is_read_from_the_file(
    tmp_path: Path, fakes: PatchSet, codec: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _slide(tmp_path / "a.svs", **codec)
    kept: list[Splice] = []
    init = TamperedView.__init__

    def spy(self: TamperedView, slide: Slide, splices: list[Splice]) -> None:
        kept.extend(splices)
        init(self, slide, splices)

    monkeypatch.setattr(TamperedView, "__init__", spy)
    report = tamper(path, _donor(fakes), TamperConfig(regions=2), tmp_path / "out")
    with Slide.open(path) as slide, Slide.open(report.slide) as written:
        view = TamperedView(slide, list(kept))
        width, height = slide.dimensions
        np.testing.assert_array_equal(view.read(0, 0, width, height), written.read(0, 0, width, height))
        np.testing.assert_array_equal(view.read(333, 217, 401, 299), written.read(333, 217, 401, 299))


def test_untouched_tiles_are_copied_byte_for_byte(tmp_path: Path, fakes: PatchSet) -> None:
    path = _slide(tmp_path / "a.svs")
    report = tamper(path, _donor(fakes), TamperConfig(regions=1), tmp_path / "out")
    touched = {row * 5 + column for column, row in report.log["recoded_tiles"]}
    old, new = _streams(path), _streams(report.slide)
    assert len(old) == len(new) == 20
    assert {i for i in range(20) if old[i] != new[i]} == touched


def test_the_coarser_levels_are_means_of_level_0(tmp_path: Path, fakes: PatchSet) -> None:
    path = _slide(tmp_path / "a.svs", quality=95)
    report = tamper(path, _donor(fakes), TamperConfig(regions=2), tmp_path / "out")
    with Slide.open(report.slide) as slide:
        assert slide.level_dimensions == ((1050, 810), (262, 202))
        fine, coarse = slide.read(0, 0, 1050, 810), slide.read(0, 0, 262, 202, level=1)
    difference = np.abs(shrink(fine).astype(int) - coarse)
    assert difference.mean() < 2  # the codec's share
    assert difference.max() < 40


def test_a_pyramid_of_awkward_sizes_is_whole() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1043, 4362, 3)).astype(np.uint8)  # the last tiles are 10 and 3 px wide or high
    with Pyramid(4362, 1043, 32, lambda pixels: pixels.tobytes()) as pyramid:
        for top in range(0, 1043, 32):
            for left in range(0, 4362, 32):
                pyramid.add(left, top, image[top : top + 32, left : left + 32])
        decoded = [
            [np.frombuffer(one, np.uint8).reshape(32, 32, 3) for one in level.streams()] for level in pyramid.levels
        ]
    wanted = image
    assert level_sizes(4362, 1043) == [(1090, 260), (272, 65)]
    for level, tiles in zip(pyramid.levels, decoded, strict=True):
        wanted = shrink(wanted)
        columns = -(-level.width // 32)
        rows = [np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)]
        np.testing.assert_array_equal(np.concatenate(rows)[: level.height, : level.width], wanted)


def test_the_file_says_that_it_is_synthetic_and_carries_no_old_words(tmp_path: Path, fakes: PatchSet) -> None:
    path = _slide(tmp_path / "a.svs", quality=30)
    with tifffile.TiffFile(path, mode="r+") as file:
        old = str(file.pages[0].description)
        words = old.replace("Filename = synthetic", "User = Jane Doe|Filename = 12345|Date = 01/02/03")
        file.pages[0].tags[270].overwrite(words)
    report = tamper(path, _donor(fakes), TamperConfig(regions=1), tmp_path / "out")
    with tifffile.TiffFile(report.slide) as file:
        told = [str(page.description) for page in file.pages]
        assert [page.is_tiled for page in file.pages] == [True, True]  # no thumbnail, label or macro
    assert all(one.startswith("SYNTHETIC") for one in told)
    assert "1050x810 [0,0 1050x810] (240x240) JPEG/RGB Q=30" in told[0]
    everything = report.slide.read_bytes() + (tmp_path / "out" / "tamper.json").read_bytes()
    for word in (b"Jane", b"12345", b"01/02/03", str(tmp_path).encode()):
        assert word not in everything
    with Slide.open(report.slide) as slide:
        assert not slide._handle.associated_images


def test_the_records_of_older_compressions_stay() -> None:
    old = (
        "Aperio Image Library v11.2.1 \r\n46000x32914 [42673,5576 2220x2967] (240x240) JPEG/RGB Q=30;Aperio Image "
        "Library v10.0.51\r\n46920x33014 [0,100 46000x32914] (256x256) JPEG/RGB Q=30|User = Jane"
    )
    assert description(old).split(";")[1:] == [
        "46000x32914 [42673,5576 2220x2967] (240x240) JPEG/RGB Q=30",
        "46920x33014 [0,100 46000x32914] (256x256) JPEG/RGB Q=30",
    ]


def test_the_log_names_every_patch_and_the_truth_is_there_twice(tmp_path: Path, fakes: PatchSet) -> None:
    path = _slide(tmp_path / "a.svs")
    config = TamperConfig(regions=2, sizes_px=(100, 260), shape="rectangle", seed=9)
    report = tamper(path, _donor(fakes), config, tmp_path / "out")
    log = json.loads((tmp_path / "out" / "tamper.json").read_text())
    assert log == json.loads(json.dumps(report.log))
    assert (log["synthetic"], log["config"]["seed"], log["mask"]["downsample"]) == (True, 9, 1)
    assert [len(region["patches"]) for region in log["regions"]] == [1, 9]
    known = set(fakes.table["sha256"])
    assert all(patch["sha256"] in known for region in log["regions"] for patch in region["patches"])
    back = read_outlines(tmp_path / "out" / "regions.geojson")
    assert [region.box for region in back] == [region.box for region in report.regions]


def test_a_seed_gives_the_same_file_and_another_another(tmp_path: Path, fakes: PatchSet) -> None:
    path = _slide(tmp_path / "a.svs")
    files = [
        tamper(path, _donor(fakes), TamperConfig(regions=1, seed=seed), tmp_path / name).slide.read_bytes()
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_regions_lie_on_tissue_and_apart(tmp_path: Path) -> None:
    with Slide.open(_slide(tmp_path / "a.svs")) as slide:
        regions = place_regions(slide, TamperConfig(regions=3, sizes_px=(100,)))
    assert all(region.x > 150 for region in regions)
    assert not any(a.is_near(b, 224) for i, a in enumerate(regions) for b in regions[:i])


def test_memory_does_not_grow_with_the_slide(tmp_path: Path, fakes: PatchSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tamper_truth, "LARGEST_MASK_PX", 512)  # the mask's limit is far above these slides
    peaks = []
    image = purple_tissue((480, 480), np.random.default_rng(2))
    for height in (960, 5760):
        path = write_svs(tmp_path / f"{height}.svs", image, size=(960, height))
        tracemalloc.start()
        tamper(path, _donor(fakes), TamperConfig(regions=1, sizes_px=(100,)), tmp_path / f"out-{height}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_slides_that_are_not_jpeg_tiles_are_refused(tmp_path: Path, fakes: PatchSet) -> None:
    plain = tmp_path / "plain.tif"
    tifffile.imwrite(plain, np.full((512, 512, 3), 200, np.uint8), tile=(256, 256))
    with pytest.raises(
        CodecError, match=r"plain\.tif: is lossless; only slides of JPEG tiles can be coded as they were"
    ):
        tamper(plain, _donor(fakes), TamperConfig(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_many_regions_are_refused(tmp_path: Path, fakes: PatchSet) -> None:
    with pytest.raises(PatchError, match=r"a: no place on tissue for region 2 of 2 \(900 px\)"):
        tamper(_slide(tmp_path / "a.svs"), _donor(fakes), TamperConfig(regions=2, sizes_px=(900,)), tmp_path / "out")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"regions": 0}, "regions must be at least 1, got 0"),
        ({"sizes_px": ()}, r"sizes_px must be at least one size, got \(\)"),
        ({"shape": "star"}, "shape must be one of rectangle, irregular, got 'star'"),
        ({"blend": "glue"}, "blend must be one of feather, poisson, none, got 'glue'"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TamperConfig(**setting)  # type: ignore[arg-type]


def test_a_splice_that_only_meets_a_tiles_box_leaves_it_alone(tmp_path: Path) -> None:
    mask = np.zeros((20, 20), bool)
    mask[:, 0] = mask[19] = True  # an L, whose right column but one row stays
    region = Region(230, 100, mask, 20)
    with Slide.open(_slide(tmp_path / "a.svs")) as slide:
        view = TamperedView(slide, [Splice(region, np.zeros((20, 20, 3), np.uint8), {})])
        assert view.touched == {(0, 0), (1, 0)}
        mask[19, 10:] = False
        assert TamperedView(slide, [Splice(region, np.zeros((20, 20, 3), np.uint8), {})]).touched == {(0, 0)}


def test_a_donor_gives_every_patch_once_before_any_comes_again(fakes: PatchSet) -> None:
    donor = open_donor(fakes.root, seed=3)
    first, second = donor.take(6)[1], donor.take(6)[1]
    assert {one["id"] for one in first} == {one["id"] for one in second} == set(fakes.table["id"])
    assert first[0]["generator"] == "gan"


def _streams(path: Path) -> list[bytes]:
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        content = path.read_bytes()
        return [content[at : at + size] for at, size in zip(page.dataoffsets, page.databytecounts, strict=True)]
