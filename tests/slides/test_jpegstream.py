from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from histoforensics.slides import CodecError
from histoforensics.slides.jpegstream import JpegHeader, parse_jpeg


def _jpeg(**options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("quality", [10, 50, 95])
def test_tables_are_those_that_pillow_reads(quality: int) -> None:
    stream = _jpeg(quality=quality)
    with Image.open(io.BytesIO(stream)) as image:
        wanted = {number: tuple(table) for number, table in image.quantization.items()}  # type: ignore[attr-defined]
    header = parse_jpeg(stream)
    assert header.tables == wanted
    assert (header.width, header.height) == (48, 32)


@pytest.mark.parametrize(("number", "name"), [(0, "4:4:4"), (1, "4:2:2"), (2, "4:2:0")])
def test_sampling_is_what_was_written(number: int, name: str) -> None:
    assert parse_jpeg(_jpeg(subsampling=number)).sampling == name


def test_markers_tell_the_colour_transform_and_a_bare_stream_is_silent() -> None:
    assert parse_jpeg(_jpeg()).transform == "ycbcr"  # JFIF
    assert parse_jpeg(_jpeg(keep_rgb=True)).transform == "rgb"
    whole = _jpeg()
    assert parse_jpeg(whole[:2] + whole[20:]).transform is None  # without its APP0


def test_an_abbreviated_stream_takes_the_shared_tables_and_its_own_win() -> None:
    shared, own = JpegHeader({0: (1,) * 64, 1: (2,) * 64}), JpegHeader({1: (3,) * 64})
    assert own.over(shared).tables == {0: (1,) * 64, 1: (3,) * 64}


def test_other_streams_are_refused_by_name() -> None:
    with pytest.raises(CodecError, match="not a JPEG stream: it starts with 50 4e"):
        parse_jpeg(b"PNG")
    with pytest.raises(CodecError, match="it starts with nothing"):
        parse_jpeg(b"")
    with pytest.raises(CodecError, match=r"not sequential Huffman-coded \(SOF2\)"):
        parse_jpeg(_jpeg(progressive=True))
    with pytest.raises(CodecError, match="breaks off inside its segment"):
        parse_jpeg(_jpeg()[:30])
    with pytest.raises(CodecError, match="a marker was expected"):
        parse_jpeg(b"\xff\xd8\x00\x00\x00")
    grey = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(grey, "JPEG")
    with pytest.raises(CodecError, match="has 1 colour components, 3 are wanted"):
        _ = parse_jpeg(grey.getvalue()).transform


def test_random_bytes_after_the_start_raise_codec_errors_alone() -> None:
    rng = np.random.default_rng(0)
    whole = _jpeg()
    for _ in range(300):
        data = bytearray(whole)
        for place in rng.integers(2, 400, 6):
            data[place] = rng.integers(256)
        try:
            header = parse_jpeg(bytes(data))
            _ = header.transform, header.sampling, header.component_tables
        except CodecError:
            pass
