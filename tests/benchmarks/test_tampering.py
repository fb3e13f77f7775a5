"""The tamper benchmark on a synthetic slide, and that judging in memory is judging the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.ndimage import gaussian_filter

from histoforensics.benchmarks import tampering
from histoforensics.benchmarks.tampering import FUSED, TamperTest, judge_block, tamper_benchmark
from histoforensics.forensics import Detector, TrainingSet, train_detector
from histoforensics.forensics.history import slide_panel
from histoforensics.forensics.scan import scan_slide
from histoforensics.forensics.scan_grid import ScanGrid
from histoforensics.forensics.tamper import TamperConfig, tamper
from histoforensics.forensics.tamper_donors import PatchDonor
from histoforensics.forensics.tamper_view import Splice, TamperedView
from histoforensics.slides import ConfigError, PatchError, PatchSet, PatchSetWriter, Slide, block_split, replay
from histoforensics.slides.synthetic import GLASS, purple_tissue, write_svs

PX = 48
Found = dict[str, Any]


def _soft(count: int, px: int, seed: int) -> np.ndarray:
    """Tissue without fine detail, as a generator might leave it."""
    tissue = purple_tissue((px, px * count), np.random.default_rng(seed)).reshape(px, count, px, 3).swapaxes(0, 1)
    return np.stack([gaussian_filter(one, (1.3, 1.3, 0)) for one in tissue])


def _patch_set(folder: Path, pixels: np.ndarray) -> PatchSet:
    with PatchSetWriter(folder, card={}) as writer:
        for one in pixels:
            writer.add(one, label="fake", generator=folder.name)
    return PatchSet.open(folder)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = purple_tissue((1344, 1344), np.random.default_rng(3))
    image[:, :100] = GLASS
    return write_svs(tmp_path_factory.mktemp("slide") / "case.svs", image, mpp=0.5, quality=60)


@pytest.fixture(scope="module")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PatchSet]:
    folder = tmp_path_factory.mktemp("fakes")
    return {name: _patch_set(folder / name, _soft(20, 64, seed)) for seed, name in enumerate("AB")}


@pytest.fixture(scope="module")
def detector(path: Path) -> Detector:
    """wht-lr, taught on the training blocks' tissue and other fakes, both after three rounds of the slide's codec."""
    with Slide.open(path) as slide:
        corners = block_split(slide, PX).positions("train", PX, 24)[:600]
        real = np.stack([slide.read(int(x), int(y), PX, PX) for x, y in corners])
        real = replay(slide.codec, real, corners[:, 0], corners[:, 1], rounds=3)
        fake = replay(slide.codec, _soft(300, PX, 9), rounds=3)
    data = TrainingSet(
        real=real[::2], fake=fake[:150], calibration_real=real[1::4], calibration_fake=fake[150:],
        provenance={"replay_rounds": 3, "mpp": 0.5},
    )  # fmt: skip
    return train_detector("wht-lr", data)


@pytest.fixture(scope="module")
def found(path: Path, fakes: dict[str, PatchSet], detector: Detector) -> Found:
    with Slide.open(path) as slide:
        return tamper_benchmark(slide, block_split(slide, PX), fakes, {"a": detector}, TamperTest(seeds=4))


def test_fakes_are_told_from_untouched_tissue_and_better_than_equally_spliced_real_tissue(found: Found) -> None:
    fake, control = (found[arm]["region_auc"] for arm in ("fake", "real_control"))
    assert fake["ci95"][0] > 0.9
    assert control["auc"] < fake["auc"]
    assert fake["spliced"] == control["spliced"] == 4 * (found["blocks"] // 2)
    assert fake["untouched"] == control["untouched"]
    assert fake["untouched"] + found["unjudged"] == 4 * (found["blocks"] - found["blocks"] // 2)
    assert set(found["generators"]) == {"A", "B"}
    assert sum(cell["spliced"] for cell in found["generators"].values()) == fake["spliced"]


def test_at_its_own_place_a_fake_scores_higher_than_what_was_there_and_oftener_than_real_tissue(found: Found) -> None:
    fake, control = (found[arm]["raised"] for arm in ("fake", "real_control"))
    assert fake["regions"] == control["regions"]
    assert 0 <= found["fake"]["region_auc"]["spliced"] - fake["regions"] <= 2  # places that nobody judged before
    assert fake["share"] > 0.9
    assert control["share"] < fake["share"]
    assert 0 <= control["ci95"][0] <= control["share"] <= control["ci95"][1] <= 1


def test_the_share_that_is_raised_is_a_mean_over_blocks_with_its_t_interval() -> None:
    """Block a: raised, raised, lowered, the same: 0.625. b: 0.5. c: 0. Each place is compared with itself alone."""
    scores = {
        "a": [(0.5, 0.9), (0.1, 0.2), (0.8, 0.7), (0.4, 0.4)],
        "b": [(0.1, 0.9), (0.9, 0.1)],
        "c": [(0.6, 0.5)],
    }
    rows = [
        {"block": block, "place": (number, 0), "seed": 0 if block == "a" else 1, "arm": arm, FUSED: score}
        for block, pairs in scores.items()
        for number, pair in enumerate(pairs, start=10 * ord(block))
        for arm, score in zip(("before", "fake"), pair, strict=True)
    ]
    raised = tampering._raised(pd.DataFrame(rows), FUSED, "fake")
    shares = [0.625, 0.5, 0.0]
    low, high = stats.t.interval(0.95, 2, np.mean(shares), stats.sem(shares))
    assert raised["share"] == pytest.approx(0.375)
    assert raised["ci95"] == pytest.approx([max(0, low), min(1, high)])
    assert (raised["regions"], raised["blocks"]) == (7, 3)
    alone = tampering._raised(pd.DataFrame(rows[-2:]), FUSED, "fake")
    assert (alone["share"], alone["ci95"]) == (None, None)


def test_of_one_detector_the_mean_of_all_is_that_detector(found: Found) -> None:
    assert found["headline"] == FUSED
    only = found["detectors"]["a"]
    assert only["fake"]["region_auc"] == found["fake"]["region_auc"]
    assert only["fake"]["hits"]["regions"] == found["fake"]["region_auc"]["spliced"]
    assert only["untouched_hits"]["hits"] <= only["fake"]["hits"]["hits"]


def test_splices_and_their_donors_stay_in_the_exams_blocks(
    path: Path, fakes: dict[str, PatchSet], detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a real donor keeps its place on the codec's grid, and never comes from the block that it goes to."""
    read: list[tuple[int, int, int]] = []
    with Slide.open(path) as slide:
        split = block_split(slide, PX)
        arena = tampering._Arena(slide, split, {"a": detector}, TamperTest())
        rng = np.random.default_rng(0)
        original = Slide.read

        def spy(self: Slide, x: int, y: int, width: int, height: int, level: int = 0) -> np.ndarray:
            read.append((x, y, width))
            return original(self, x, y, width, height, level)

        monkeypatch.setattr(Slide, "read", spy)
        for name in arena.blocks:
            region = arena._region(name, rng)
            read.clear()
            arena._real(name, region, rng)
            for (x, y, width), (to_x, to_y) in zip(read, arena._mosaic(region), strict=True):
                block = split.block_of(x, y)
                assert block is not None
                assert split.roles[block] == "exam"
                assert split.block_of(x + width - 1, y + width - 1) == block != split.block_of(region.x, region.y)
                assert ((x - to_x) % 16, (y - to_y) % 16) == (0, 0)


def test_the_same_seed_finds_the_same(path: Path, fakes: dict[str, PatchSet], detector: Detector) -> None:
    with Slide.open(path) as slide:
        split = block_split(slide, PX)
        runs = [
            tamper_benchmark(
                slide, split, fakes, {"a": detector}, TamperTest(seeds=1, seed=seed, blend="none", mosaic=1)
            )
            for seed in (5, 5, 6)
        ]
    assert runs[0]["detectors"] == runs[1]["detectors"]
    assert runs[0]["detectors"] != runs[2]["detectors"]


def test_a_block_judged_in_memory_has_the_scores_of_a_scan_of_the_file(
    path: Path, fakes: dict[str, PatchSet], detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Splice] = []
    init: Callable[..., None] = TamperedView.__init__

    def spy(self: TamperedView, slide: Slide, splices: list[Splice]) -> None:
        kept.extend(splices)
        init(self, slide, splices)

    monkeypatch.setattr(TamperedView, "__init__", spy)
    donor = PatchDonor(fakes["A"], np.random.default_rng(0))
    report = tamper(path, donor, TamperConfig(regions=1, sizes_px=(150,), seed=2), tmp_path / "out")
    x, y, _, _ = report.regions[0].box
    x, y = x // 24 * 24, y // 24 * 24
    with Slide.open(path) as slide, Slide.open(report.slide) as written:
        panel, _ = slide_panel(slide, {"a": detector})
        block = judge_block(TamperedView(slide, list(kept)), (x, y, 144, 144), panel, PX, 24)
        scan = scan_slide(written, {"a": detector}, ScanGrid()).scores
    rows, columns = block.status.shape
    part = slice(y // 24, y // 24 + rows), slice(x // 24, x // 24 + columns)
    np.testing.assert_array_equal(block.status, scan.status[part])
    np.testing.assert_allclose(block.scores["a"], scan.scores["a"][part], atol=1e-6)
    assert np.nanmax(block.scores["a"]) > detector.fake_above.item()


def test_too_few_blocks_and_too_small_fakes_are_refused(
    tmp_path: Path, path: Path, fakes: dict[str, PatchSet], detector: Detector
) -> None:
    small = write_svs(tmp_path / "small.svs", purple_tissue((200, 400), np.random.default_rng(1)))
    with Slide.open(small) as slide, pytest.raises(PatchError, match=r"exam blocks have room for a region of 78 px"):
        tamper_benchmark(slide, block_split(slide, PX), fakes, {"a": detector})
    tiny = {"A": _patch_set(tmp_path / "tiny", _soft(3, 32, 1))}
    with Slide.open(path) as slide, pytest.raises(PatchError, match="fakes of at least 48 px are wanted for splices"):
        tamper_benchmark(slide, block_split(slide, PX), tiny, {"a": detector}, TamperTest(seeds=1))


def test_settings_out_of_range_are_refused() -> None:
    assert TamperTest().size_px(112) == 206
    with pytest.raises(ConfigError, match="seeds must be at least 1, got 0"):
        TamperTest(seeds=0)
    with pytest.raises(ConfigError, match="mosaic must be at least 1, got 0"):
        TamperTest(mosaic=0)
