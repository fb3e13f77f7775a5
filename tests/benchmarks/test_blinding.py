"""What the files of an exam tell, on files that tell something."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from histoforensics.benchmarks.blinding import check_plain, file_controls, pixel_controls, png_chunks, strongest
from histoforensics.benchmarks.examiner import encode_item
from histoforensics.slides import ExamError

PATCHES = np.random.default_rng(0).integers(0, 255, (8, 16, 16, 3), dtype=np.uint8)
FAKE = [False] * 4 + [True] * 4


def test_encoded_items_are_plain_and_of_one_length():
    served = [encode_item(patch) for patch in [*PATCHES, np.zeros_like(PATCHES[0])]]
    check_plain(served)
    assert len({len(png) for png in served}) == 1
    assert set(png_chunks(served[0])) == {b"IHDR", b"IDAT", b"IEND"}
    assert file_controls(served[:8], FAKE) == {"bytes": 0.5, "metadata": 0.5}


def test_metadata_is_refused_by_its_name():
    note = PngImagePlugin.PngInfo()
    note.add_text("synthetic", "yes")
    buffer = io.BytesIO()
    Image.fromarray(PATCHES[0]).save(buffer, "PNG", pnginfo=note)
    with pytest.raises(ExamError, match=r"carries metadata \(tEXt\)"):
        check_plain([buffer.getvalue()])


def test_compressed_items_are_refused_for_their_lengths_which_tell_the_class():
    def squeezed(patch):
        buffer = io.BytesIO()
        Image.fromarray(patch).save(buffer, "PNG")
        return buffer.getvalue()

    files = [squeezed(patch) for patch in np.where(np.array(FAKE)[:, None, None, None], 200, PATCHES).astype(np.uint8)]
    assert file_controls(files, FAKE)["bytes"] == 0.0  # every flat fake is shorter
    with pytest.raises(ExamError, match="bytes long; a length could tell the class"):
        check_plain(files)


def test_a_pixel_cue_is_reported_with_its_direction_and_not_refused():
    brighter = np.where(np.array(FAKE)[:, None, None, None], PATCHES // 2 + 128, PATCHES // 2).astype(np.uint8)
    found = pixel_controls(brighter, FAKE)
    assert found["brightness"] == 1.0
    assert pixel_controls(brighter, [not fake for fake in FAKE])["brightness"] == 0.0
    assert strongest({"a": 0.6, "b": 0.2}) == ("b", 0.2)
