from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.fft import dctn

from histoforensics.slides import (
    SETTLING_ROUNDS,
    Codec,
    CodecError,
    ConfigError,
    JpegGeneration,
    PatchError,
    Slide,
    replay,
    tissue_mask,
    transcode,
)
from histoforensics.slides.codec import standard_table
from histoforensics.slides.replay import jpeg_round_trip, matched_codec
from histoforensics.slides.synthetic import write_svs

Q30 = JpegGeneration((standard_table(30),) * 3, "4:4:4", "rgb")


def _off_lattice(pixels: np.ndarray, phase: tuple[int, int]) -> float:
    """How far the DCT of the blocks at ``phase`` lies from multiples of the table's steps; 0.25 is chance."""
    steps = np.array(standard_table(30)).reshape(8, 8)
    plane = pixels[phase[1] :, phase[0] :, 0].astype(float) - 128
    rows, columns = plane.shape[0] // 8, plane.shape[1] // 8
    blocks = plane[: rows * 8, : columns * 8].reshape(rows, 8, columns, 8).swapaxes(1, 2)
    low = (dctn(blocks, axes=(2, 3), norm="ortho") / steps)[..., :2, :2]
    return float(np.abs(low - np.round(low)).mean())


def test_the_samples_own_tiles_change_under_two_percent_and_a_wrong_guess_changes_most(sample: Path) -> None:
    with Slide.open(sample) as slide:
        codec = slide.codec
        corners = [(x, y) for y in range(0, 2640, 240) for x in range(0, 1920, 240)]
        tiles = np.stack([slide.read(x, y, 240, 240) for x, y in corners])
    assert (transcode(codec, tiles) != tiles).mean() < 0.02
    wrong, column = replace(codec.last, transform="ycbcr", sampling="4:2:0"), tiles.reshape(-1, 240, 3)
    changed = jpeg_round_trip(wrong, column) != column
    assert changed[tissue_mask(column)].mean() > 0.8


@pytest.mark.parametrize(
    ("sampling", "transform"), [("4:2:0", "ycbcr"), ("4:2:2", "ycbcr"), ("4:4:4", "ycbcr"), ("4:4:4", "rgb")]
)
def test_own_tiles_of_every_sampling_hardly_change(
    tmp_path: Path, texture: np.ndarray, sampling: str, transform: str
) -> None:
    path = write_svs(tmp_path / "a.svs", texture, sampling=sampling, transform=transform)  # type: ignore[arg-type]
    with Slide.open(path) as slide:
        tiles = np.stack([slide.read(x, 240, 240, 240) for x in (0, 240, 480)])
        again = transcode(slide.codec, tiles)
    inner = np.s_[:, 16:-16, 16:-16]  # subsampled colours are interpolated over the tile's border
    assert np.abs(again[inner].astype(int) - tiles[inner]).mean() < 0.5
    if sampling == "4:4:4":  # elsewhere thinning and interpolating colours is not quite undone
        assert (again != tiles).mean() < 0.02


def test_the_grid_lies_where_the_generation_says(texture: np.ndarray) -> None:
    codec = Codec("jpeg", (replace(Q30, phase=(7, 3)),), 240, 240)
    result = replay(codec, texture[None, :256, :256])[0]
    assert _off_lattice(result, (7, 3)) < 0.05
    assert _off_lattice(result, (0, 0)) > 0.15


def test_a_patchs_place_on_the_slide_moves_the_grid(texture: np.ndarray) -> None:
    codec = Codec("jpeg", (Q30,), 240, 240)
    patches = np.stack([texture[:112, :112]] * 3)
    moved = replay(codec, patches, [0, 3, 8], [0, 6, 16])
    np.testing.assert_array_equal(moved[0], moved[2])  # whole blocks apart
    assert _off_lattice(moved[1], (5, 2)) < 0.05


def test_generations_run_oldest_first(texture: np.ndarray) -> None:
    old, new = replace(Q30, phase=(7, 0)), replace(Q30, tables=(standard_table(50),) * 3)
    patches = texture[None, :112, :112]
    step = transcode(Codec("jpeg", (old,), 1, 1), patches)
    wanted = transcode(Codec("jpeg", (new,), 1, 1), step)
    np.testing.assert_array_equal(replay(Codec("jpeg", (old, new), 1, 1), patches), wanted)


def test_batches_give_what_single_patches_give(texture: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    for sampling in ("4:4:4", "4:2:0"):
        transform = "rgb" if sampling == "4:4:4" else "ycbcr"
        codec = Codec("jpeg", (replace(Q30, sampling=sampling, transform=transform, phase=(7, 0)),), 1, 1)  # type: ignore[arg-type]
        corners = rng.integers(0, 800, (20, 2))
        patches = np.stack([texture[y : y + 50, x : x + 60] for x, y in corners])
        together = replay(codec, patches, corners[:, 0], corners[:, 1])
        alone = [replay(codec, p[None], x, y)[0] for p, (x, y) in zip(patches, corners, strict=True)]
        np.testing.assert_array_equal(together, alone)


def test_rounds_settle(texture: np.ndarray) -> None:
    codec = Codec("jpeg", (replace(Q30, phase=(7, 0)), Q30), 1, 1)
    patches = texture[:112, :896].reshape(112, 8, 112, 3).swapaxes(0, 1)

    def moved(rounds: int) -> float:
        before, after = replay(codec, patches, rounds=rounds), replay(codec, patches, rounds=rounds + 1)
        return float(np.abs(before.astype(int) - after).mean())

    assert moved(SETTLING_ROUNDS) < 0.25 * moved(1)
    np.testing.assert_array_equal(replay(codec, replay(codec, patches), rounds=2), replay(codec, patches, rounds=3))


def test_the_input_is_left_alone_and_lossless_changes_nothing(texture: np.ndarray) -> None:
    patches = texture[None, :64, :64].copy()
    before = patches.copy()
    replay(Codec("jpeg", (Q30,), 1, 1), patches)
    np.testing.assert_array_equal(patches, before)
    lossless = Codec("lossless", (), 1, 1)
    np.testing.assert_array_equal(replay(lossless, patches), before)
    np.testing.assert_array_equal(transcode(lossless, patches), before)
    assert replay(Codec("jpeg", (Q30,), 1, 1), patches[:0]).shape == (0, 64, 64, 3)


def test_other_arrays_and_rounds_are_refused() -> None:
    codec = Codec("jpeg", (Q30,), 1, 1)
    with pytest.raises(PatchError, match=r"patches must be uint8 of shape \(n, h, w, 3\), got float64"):
        replay(codec, np.zeros((1, 8, 8, 3)))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="rounds must be at least 1, got 0"):
        replay(codec, np.zeros((1, 8, 8, 3), np.uint8), rounds=0)


def test_whole_jpeg2000_tiles_hardly_change(jpeg2000_slide: Path) -> None:
    with Slide.open(jpeg2000_slide) as slide:
        corners = [(x, 1536) for x in range(1024, 2560, 256)]
        tiles = np.stack([slide.read(x, y, 256, 256) for x, y in corners])
        result = replay(slide.codec, tiles, *np.array(corners).T)
    assert np.abs(result.astype(int) - tiles).mean() < 0.3


def test_jpeg2000_of_another_kind_is_refused_with_the_reason(jpeg2000_slide: Path) -> None:
    with Slide.open(jpeg2000_slide) as slide:
        codec = slide.codec
    assert matched_codec(codec) is codec
    assert codec.jpeg2000 is not None
    for change, reason in (
        ({"colour": "ycbcr"}, "its components are not RGB"),
        ({"irreversible": False}, "it uses the reversible wavelet"),
        ({"layers": 4}, "its tiles have 4 quality layers"),
    ):
        other = replace(codec, jpeg2000=replace(codec.jpeg2000, **change))  # type: ignore[arg-type]
        with pytest.raises(CodecError, match=f"the slide is JPEG 2000 and cannot be matched: {reason}"):
            replay(other, np.zeros((1, 8, 8, 3), np.uint8))
