"""Joined sets read the same pixels from the same files."""

import numpy as np
import pytest

from histoforensics.forensics.joining import joined
from histoforensics.slides import PatchError, PatchSet, PatchSetWriter


def test_rows_and_pixels_stay_in_order(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
    for name, rows in (("a/fakes", [0, 1]), ("b", [2, 3, 4])):
        with PatchSetWriter(tmp_path / name) as writer:
            for row in rows:
                writer.add(pixels[row], label="fake", generator=name[0])
    sets = [PatchSet.open(tmp_path / "a/fakes"), PatchSet.open(tmp_path / "b")]
    whole = joined(sets)
    np.testing.assert_array_equal(whole.pixels(), pixels)
    assert whole.table["generator"].tolist() == list("aabbb")
    assert whole.card["sets"] == ["a/fakes", "b"]
    assert joined(sets[:1]) is sets[0]
    with pytest.raises(PatchError, match="no patch sets to join"):
        joined([])
