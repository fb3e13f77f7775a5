from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from numpy.typing import NDArray

from histoforensics.forensics import Detector, windows
from histoforensics.forensics.scan import scan_slide
from histoforensics.forensics.scan_grid import ScanGrid, common_patch_px
from histoforensics.forensics.scoremap import BACKGROUND, CORRUPT, OK
from histoforensics.forensics.wht import WHTDetector
from histoforensics.slides import ConfigError, DetectorError, MppError, Slide, tissue_fraction
from histoforensics.slides.synthetic import GLASS, purple_tissue, write_svs

Planted = tuple[Path, tuple[int, int]]


def test_a_planted_patch_is_found_where_it_was_planted(planted: Planted, detector: Detector) -> None:
    path, corner = planted
    with Slide.open(path) as slide:
        scan = scan_slide(slide, {"wht-lr": detector}, ScanGrid()).scores
    scores = scan.scores["wht-lr"]
    row, column = np.unravel_index(np.nanargmax(scores), scores.shape)
    assert (column * scan.lattice.stride_px, row * scan.lattice.stride_px) == corner
    assert scores[row, column] > detector.fake_above.item()
    assert (scores > detector.fake_above.item()).mean() < 0.01


def test_scores_equal_those_of_patches_that_are_read_one_by_one(
    planted: Planted, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "BLOCK_PX", 480)  # several blocks on a small slide
    with Slide.open(planted[0]) as slide:
        scan = scan_slide(slide, {"a": detector, "b": detector}, ScanGrid(stride_px=40)).scores
        for (row, column), status in list(np.ndenumerate(scan.status))[::7]:
            pixels = slide.read(column * 40, row * 40, 64, 64)
            assert (status == OK) == (tissue_fraction(pixels) >= 0.5)
            if status == OK:
                assert scan.scores["a"][row, column] == pytest.approx(detector.score(pixels[None])[0], abs=1e-6)
    assert np.array_equal(scan.scores["a"], scan.scores["b"], equal_nan=True)
    assert np.isnan(scan.scores["a"][scan.status == BACKGROUND]).all()


def test_each_region_is_decoded_once(planted: Planted, detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "BLOCK_PX", 480)
    decoded = 0
    read = Slide.read

    def counting(self: Slide, x: int, y: int, width: int, height: int, level: int = 0) -> NDArray[np.uint8]:
        nonlocal decoded
        decoded += width * height
        return read(self, x, y, width, height, level)

    with Slide.open(planted[0]) as slide, patch.object(Slide, "read", counting):
        scan_slide(slide, {"a": detector}, ScanGrid(stride_px=16))
    assert decoded == 1200 * 900


def test_a_destroyed_tile_costs_the_patches_that_touch_it_and_no_others(
    planted: Planted, detector: Detector, destroy_tile: Callable[[Path, int], None]
) -> None:
    path, _ = planted
    with Slide.open(path) as slide:
        whole = scan_slide(slide, {"a": detector}, ScanGrid()).scores
    destroy_tile(path, 3)  # (720, 0), 240 x 240 px, of 5 x 4 tiles
    with Slide.open(path) as slide:
        result = scan_slide(slide, {"a": detector}, ScanGrid())
    assert result.broken == ((720, 0, 240, 240),)
    x, y = (result.scores.positions[:, axis].reshape(whole.status.shape) for axis in (0, 1))
    touches = (x < 960) & (x + 64 > 720) & (y < 240)
    assert (result.scores.status[touches] == CORRUPT).all()
    assert np.isnan(result.scores.scores["a"][touches]).all()
    assert (result.scores.status[~touches] == whole.status[~touches]).all()
    np.testing.assert_allclose(result.scores.scores["a"][~touches], whole.scores["a"][~touches], atol=1e-6)


def test_glass_of_a_pyramid_is_not_read_and_changes_nothing(
    tmp_path: Path, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "BLOCK_PX", 240)
    image = np.full((960, 1680, 3), GLASS, np.uint8)
    image[:600, 900:] = purple_tissue((600, 780), np.random.default_rng(3))
    scans = []
    for levels in (1, 2):
        with Slide.open(write_svs(tmp_path / f"{levels}.svs", image, levels=levels)) as slide:
            scans.append(scan_slide(slide, {"a": detector}, ScanGrid()))
    flat, pyramid = scans
    assert flat.skipped == 0
    assert pyramid.skipped > 5
    assert (flat.scores.status == pyramid.scores.status).all()
    np.testing.assert_allclose(flat.scores.scores["a"], pyramid.scores.scores["a"], atol=1e-6)
    assert pyramid.overview.shape == (240, 420, 3)


def test_a_slide_without_tissue_or_smaller_than_a_patch_has_no_scores(tmp_path: Path, detector: Detector) -> None:
    for name, shape in (("glass.svs", (300, 300)), ("tiny.svs", (40, 300))):
        image = np.full((*shape, 3), GLASS, np.uint8)
        with Slide.open(write_svs(tmp_path / name, image)) as slide:
            scan = scan_slide(slide, {"a": detector}, ScanGrid())
        assert scan.scores.count(OK) == 0


def test_a_slide_that_does_not_tell_its_mpp_needs_it(tmp_path: Path, detector: Detector) -> None:
    path = write_svs(tmp_path / "a.svs", purple_tissue((200, 200), np.random.default_rng(0)), mpp=None)
    with Slide.open(path) as slide, pytest.raises(MppError, match="pass it with --mpp"):
        scan_slide(slide, {"a": detector}, ScanGrid())
    with Slide.open(path, mpp=0.4) as slide:
        assert scan_slide(slide, {"a": detector}, ScanGrid(mpp=0.4)).scores.mpp == 0.4


def test_detectors_must_be_calibrated_and_of_one_size(detector: Detector) -> None:
    with pytest.raises(DetectorError, match="at least one detector"):
        common_patch_px([])
    with pytest.raises(DetectorError, match="wht-lr: no thresholds yet"):
        common_patch_px([WHTDetector(64)])
    other = WHTDetector(128)
    other.fake_above.fill_(0.5)
    with pytest.raises(DetectorError, match=r"different sizes \(wht-lr 64 px, wht-lr 128 px\)"):
        common_patch_px([detector, other])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stride_px": 0}, "stride_px must be at least 1, got 0"),
        ({"min_tissue": 1.5}, "min_tissue must be from 0 to 1, got 1.5"),
        ({"mpp": -1.0}, "mpp must be above 0, got -1.0"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
    ],
)
def test_bad_settings_are_one_sentence(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ScanGrid(**settings)  # type: ignore[arg-type]
