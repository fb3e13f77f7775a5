from __future__ import annotations

import tracemalloc
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import tifffile
from PIL import Image

from histoforensics.forensics.pictures import CORRUPT_COLOUR, OPACITY, heatmap, write_ome_tiff, write_png
from histoforensics.forensics.scoremap import BACKGROUND, CORRUPT, OK, ScoreMap
from histoforensics.forensics.windows import Lattice


@pytest.fixture
def scores() -> ScoreMap:
    status = np.array([[OK, OK], [BACKGROUND, CORRUPT]], np.uint8)
    values = np.array([[0.0, 1.0], [np.nan, np.nan]], np.float32)
    return ScoreMap(Lattice(90, 80, 40, 40), 0.5, status, {"a": values, "b": values})


def test_the_heatmap_colours_each_cell_where_it_lies(scores: ScoreMap) -> None:
    overview = np.full((20, 23, 3), 200, np.uint8)  # 4 level-0 pixels each
    picture = heatmap(scores, "a", overview, 4.0)
    assert picture.shape == overview.shape
    black, yellow = (0, 0, 4), (252, 255, 164)  # the ends of matplotlib's inferno
    for area, colour in ((picture[:10, :10], black), (picture[:10, 10:20], yellow)):
        expected = (1 - OPACITY) * 200 + OPACITY * np.array(colour)
        assert np.abs(area - expected).max() <= 1
    assert (picture[10:, :10] == 200).all()
    assert (picture[10:, 10:20] == CORRUPT_COLOUR).all()
    assert (picture[:, 20:] == 200).all()


def test_colours_are_made_for_what_is_seen_and_not_for_every_cell_of_a_large_slide() -> None:
    lattice = Lattice(40 * 600, 40 * 600, 40, 40)
    values = np.zeros(lattice.shape, np.float32)
    scores = ScoreMap(lattice, 0.5, np.full(lattice.shape, OK, np.uint8), {"a": values})
    overview = np.full((8, 8, 3), 200, np.uint8)
    heatmap(scores, "a", overview, 3000.0)  # which imports
    tracemalloc.start()
    heatmap(scores, "a", overview, 3000.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 * values.size


def test_without_cells_the_overview_stays_bare() -> None:
    empty = ScoreMap(Lattice(8, 8, 40, 40), 0.5, np.zeros((0, 0), np.uint8), {"a": np.zeros((0, 0), np.float32)})
    overview = np.full((4, 4, 3), 77, np.uint8)
    assert (heatmap(empty, "a", overview, 2.0) == 77).all()


def test_the_ome_tiff_has_a_channel_a_detector_and_the_size_of_a_cell(tmp_path: Path, scores: ScoreMap) -> None:
    path = tmp_path / "map.ome.tif"
    write_ome_tiff(path, scores)
    with tifffile.TiffFile(path) as tif:
        assert tif.is_ome
        data, text = tif.asarray(), tif.ome_metadata
        assert tif.series[0].axes == "CYX"
    assert text is not None
    np.testing.assert_array_equal(data, np.stack([scores.cells("a"), scores.cells("b")]))
    space = {"o": "http://www.openmicroscopy.org/Schemas/OME/2016-06"}
    pixels = ET.fromstring(text).find(".//o:Pixels", space)
    assert pixels is not None
    assert float(pixels.attrib["PhysicalSizeX"]) == 20.0
    assert float(pixels.attrib["PhysicalSizeY"]) == 20.0
    assert [channel.attrib["Name"] for channel in pixels.findall("o:Channel", space)] == ["P(fake) a", "P(fake) b"]
    assert "UUID" not in text


def test_the_same_map_gives_the_same_bytes(tmp_path: Path, scores: ScoreMap) -> None:
    for name in ("1.ome.tif", "2.ome.tif"):
        write_ome_tiff(tmp_path / name, scores)
    assert (tmp_path / "1.ome.tif").read_bytes() == (tmp_path / "2.ome.tif").read_bytes()


def test_one_detector_gives_a_single_channel(tmp_path: Path, scores: ScoreMap) -> None:
    write_ome_tiff(tmp_path / "a.ome.tif", ScoreMap(scores.lattice, 0.5, scores.status, {"a": scores.scores["a"]}))
    assert tifffile.imread(tmp_path / "a.ome.tif").squeeze().shape == (2, 2)


def test_the_png_holds_no_metadata(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", np.zeros((4, 5, 3), np.uint8))
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (5, 4)
        assert image.info == {}
