"""Facts of files that were written here on purpose, against Pillow's and PNG's own rules."""

import numpy as np
import pytest
from PIL import Image

from histoforensics.forensics.filefacts import file_facts, png_chunks, read_facts
from histoforensics.slides import PatchError, PatchSet, PatchSetWriter

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 32, 3)).astype(np.uint8)


def test_jpeg_tells_its_tables_and_subsampling(tmp_path):
    for name, options in (("a.jpg", {"quality": 80, "subsampling": 2}), ("b.jpg", {"quality": 80, "subsampling": 0}),
                          ("c.jpg", {"quality": 30, "subsampling": 0})):  # fmt: skip
        Image.fromarray(PIXELS).save(tmp_path / name, **options)
    a, b, c = (read_facts(tmp_path / f"{name}.jpg") for name in "abc")
    assert (a["file_jpeg_subsampling"], b["file_jpeg_subsampling"]) == ("4:2:0", "4:4:4")
    assert a["file_jpeg_tables"] == b["file_jpeg_tables"] != c["file_jpeg_tables"]
    assert a["file_lossy"]
    assert a["file_png_chunks"] is None
    assert a["file_bytes"] == (tmp_path / "a.jpg").stat().st_size


def test_png_tells_its_chunks(tmp_path):
    with PatchSetWriter(tmp_path / "set") as writer:
        writer.add(PIXELS, label="real")
        writer.add(PIXELS[::-1], label="fake", generator="gan")
    table = file_facts(PatchSet.open(tmp_path / "set"), [0, 1])
    assert table["file_png_chunks"].tolist() == ["IHDR IDAT IEND", "IHDR tEXt IDAT IEND"]
    assert not table["file_lossy"].any()


def test_files_that_are_none_are_refused(tmp_path):
    (tmp_path / "x.png").write_bytes(b"no image")
    with pytest.raises(PatchError, match=r"x\.png: not an image file"):
        read_facts(tmp_path / "x.png")
    with pytest.raises(PatchError, match=r"x\.png: not a PNG"):
        png_chunks(tmp_path / "x.png")
    Image.fromarray(PIXELS).save(tmp_path / "y.png")
    (tmp_path / "y.png").write_bytes((tmp_path / "y.png").read_bytes()[:200])
    with pytest.raises(PatchError, match=r"y\.png: the PNG breaks off"):
        png_chunks(tmp_path / "y.png")
