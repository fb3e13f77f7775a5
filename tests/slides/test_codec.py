from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from histoforensics.slides import Codec, CodecError, JpegGeneration, SlideNotFound, read_codec
from histoforensics.slides.codec import older_generations, standard_table
from histoforensics.slides.synthetic import write_svs
from histoforensics.slides.tiffwriter import Page, write_tiff

TWICE = (
    "Aperio Image Library v11.2.1 \r\n46000x32914 [42673,5576 2220x2967] (240x240) JPEG/RGB Q=30;"
    "Aperio Image Library v10.0.51\r\n46920x33014 [0,100 46000x32914] (256x256) JPEG/RGB Q=30|AppMag = 20"
)
Q30 = JpegGeneration((standard_table(30),) * 3, "4:4:4", "rgb", quality=30)


def test_the_sample_slide_tells_of_two_generations(sample: Path) -> None:
    codec = read_codec(sample)
    older, last = codec.generations
    assert (codec.kind, codec.tile_width, codec.notes) == ("jpeg", 240, ())
    assert (last.transform, last.sampling, last.phase, last.quality, last.evidence) == (
        "rgb",
        "4:4:4",
        (0, 0),
        30,
        "stream",
    )
    assert last.tables == (standard_table(30),) * 3  # one table, though TIFF tag 530 speaks of 2 x 2 sampling
    assert (older.phase, older.quality, older.evidence) == ((7, 0), 30, "ImageDescription")
    assert older.tables == last.tables


@pytest.mark.parametrize("quality", [1, 30, 49, 50, 75, 100])
def test_standard_tables_are_those_of_pillows_libjpeg(quality: int) -> None:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as image:
        assert standard_table(quality) == tuple(image.quantization[0])  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("sampling", "transform"), [("4:2:0", "ycbcr"), ("4:2:2", "ycbcr"), ("4:4:4", "ycbcr"), ("4:4:4", "rgb")]
)
def test_what_was_written_is_what_is_read(tmp_path: Path, texture: np.ndarray, sampling: str, transform: str) -> None:
    path = write_svs(tmp_path / "a.svs", texture, sampling=sampling, transform=transform, quality=61)  # type: ignore[arg-type]
    last = read_codec(path).last
    assert (last.sampling, last.transform, last.quality) == (sampling, transform, 61)


def test_the_older_grid_lies_where_the_crop_put_it() -> None:
    older, notes = older_generations(TWICE, Q30)
    assert [generation.phase for generation in older] == [(7, 0)]
    assert notes == ()
    shifted, _ = older_generations(TWICE.replace("42673,5576", "42675,5579"), Q30)
    assert shifted[0].phase == (5, 5)


def test_three_generations_come_oldest_first_with_their_crops_summed_up() -> None:
    text = (
        TWICE.replace("46920x33014 [0,100", "46920x33014 [2,3")
        + ";46920x33024 [0,10 46920x33014] (256x256) JPEG/RGB Q=30"
    )
    older, notes = older_generations(text, Q30)
    left, top = 42673, 5576
    assert [generation.phase for generation in older] == [(-(left + 2) % 8, -(top + 3) % 8), (-left % 8, -top % 8)]
    assert notes == ()


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (
            "46920x33014 [0,100 46000x32914] (256x256)",
            "46920x33014 [0,100 46000x32914] (256x256) -> 23000x16457",
            "rescaled",
        ),
        ("[0,100 46000x32914]", "[0,100 46000x32000]", "wrote 46000 x 32000 px, but 46000 x 32914 px were read"),
        ("(256x256) JPEG/RGB Q=30", "(256x256) J2K/KDU Q=70", "its codec differs from the present JPEG/RGB"),
        ("(240x240) JPEG/RGB Q=30", "(240x240) JPEG/RGB Q=70", "not libjpeg's for the stated quality"),
    ],
)
def test_what_cannot_be_inferred_is_noted_and_not_guessed(old: str, new: str, reason: str) -> None:
    older, notes = older_generations(TWICE.replace(old, new), Q30)
    assert older == ()
    assert reason in notes[0]


def test_one_record_and_none_tell_of_nothing_older() -> None:
    assert older_generations(TWICE.split(";")[0], Q30) == ((), ())
    assert older_generations("", Q30) == ((), ())


def test_a_codec_survives_json_and_its_digest_follows_its_content(sample: Path) -> None:
    codec = read_codec(sample)
    again = Codec.from_json(json.loads(json.dumps(codec.to_json())))
    assert again == codec
    assert again.digest == codec.digest != replace(codec, tile_width=256).digest
    with pytest.raises(CodecError, match="not a codec written by this version"):
        Codec.from_json({"kind": "jpeg"})


def test_manifest_fields_tell_where_the_grid_meets_the_patch() -> None:
    codec = Codec("jpeg", (replace(Q30, phase=(7, 0)),), 240, 240)
    assert codec.manifest_fields(3, 13)["grid_phase_x"] == 4  # the next block edge, 7, is 4 px to the right of 3
    assert codec.manifest_fields(3, 13)["grid_phase_y"] == 3
    assert Codec("lossless", (), 1, 1).manifest_fields(0, 0) == {"codec": "lossless"}


def test_jpeg2000_parameters_are_read_from_the_codestream(jpeg2000_slide: Path) -> None:
    codec = read_codec(jpeg2000_slide)
    parameters = codec.jpeg2000
    assert codec.kind == "jpeg2000"
    assert parameters is not None
    assert (parameters.irreversible, parameters.resolutions, parameters.layers) == (True, 6, 1)
    assert parameters.tile_bytes <= 14_000  # Kakadu's note in the stream says 1.4e+004
    assert Codec.from_json(json.loads(json.dumps(codec.to_json()))) == codec
    with pytest.raises(CodecError, match="the slide's codec is jpeg2000: it has no JPEG generation"):
        _ = codec.last


def test_missing_other_and_mixed_files_are_refused(tmp_path: Path, texture: np.ndarray) -> None:
    with pytest.raises(SlideNotFound):
        read_codec(tmp_path / "gone.svs")
    (tmp_path / "a.svs").write_text("no TIFF")
    with pytest.raises(CodecError, match=r"a\.svs: its codec can be read from TIFF-based slides only"):
        read_codec(tmp_path / "a.svs")
    from histoforensics.slides.replay import encode_jpeg

    other = replace(Q30, tables=(standard_table(80),) * 3)
    tiles = [encode_jpeg(generation, texture[:64, :64]) for generation in (Q30, other)]
    mixed = write_tiff(tmp_path / "mixed.tif", [Page(128, 64, tiles, 64)])
    with pytest.raises(CodecError, match=r"mixed\.tif: its tiles were compressed with different JPEG tables"):
        read_codec(mixed)
    contradiction = write_tiff(tmp_path / "x.tif", [Page(64, 64, tiles[:1], 64, photometric="ycbcr")])
    with pytest.raises(CodecError, match="coded as rgb, but its TIFF photometric tag says ycbcr"):
        read_codec(contradiction)
    plain = write_tiff(tmp_path / "raw.tif", [Page(64, 64, [texture[:64, :64].tobytes()], 64, compression=1)])
    assert read_codec(plain).kind == "lossless"
