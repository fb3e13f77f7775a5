"""Damaged files: whatever happens to a valid one, a checkpoint or one sentence comes out, and nothing runs."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import re
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch

from histoforensics.generators.importing import import_checkpoint
from histoforensics.slides import CheckpointError


@pytest.fixture(name="valid", scope="module")
def fixture_valid(tmp_path_factory, layouts) -> dict[str, bytes]:
    """One valid file of each container, as small as networks get."""
    folder = tmp_path_factory.mktemp("valid")
    G, D = layouts.lively("stylegan2", fmap_base=8, fmap_max=2, z_dim=2, w_dim=2)
    layouts.ada_pickle(folder / "a.pkl", *layouts.ada_names(G, D))
    layouts.write_pickle(folder / "b.pkl", layouts.tf_stylegan2(G, D))
    g, d = layouts.rosinality_names(G, D)
    for name, zipped in (("c.pt", True), ("d.pt", False)):
        torch.save(
            {"g_ema": g, "d": d, "args": argparse.Namespace(x=1)}, folder / name, _use_new_zipfile_serialization=zipped
        )
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def damaged(whole: bytes, rng: np.random.Generator) -> bytes:
    """Up to three of: a byte changed, bytes cut out, doubled, replaced, swapped with others, the rest cut off."""
    data = bytearray(whole)
    for _ in range(rng.integers(1, 4)):
        at, other, length = int(rng.integers(len(data))), int(rng.integers(len(data))), int(rng.integers(1, 9))
        match rng.integers(7):
            case 0 | 1:
                data[at] = rng.integers(256)
            case 2:
                del data[at : at + length]
            case 3:
                data[at:at] = data[other : other + length]
            case 4:
                data[at : at + length] = rng.bytes(length)
            case 5:
                data[at : at + length], data[other : other + length] = (
                    data[other : other + length],
                    data[at : at + length],
                )
            case _:
                del data[at + 1 :]
    return bytes(data)


def damaged_inside(whole: bytes, rng: np.random.Generator) -> bytes:
    """A zip whose checksums are right and whose pickle is damaged."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, damaged(content, rng) if name.endswith("data.pkl") else content)
    return buffer.getvalue()


def alarm(*_: object, **__: object) -> None:
    raise AssertionError("something of the file was run")


@pytest.mark.parametrize(
    ("name", "damage"),
    [("a.pkl", damaged), ("b.pkl", damaged), ("c.pt", damaged), ("c.pt", damaged_inside), ("d.pt", damaged)],
)
def test_damaged_files_are_refused_in_one_sentence_and_nothing_else_happens(tmp_path, valid, name, damage, monkeypatch):
    rng, path, sentences = np.random.default_rng(0), tmp_path / name, list[str]()
    path.write_bytes(valid[name])
    import_checkpoint(path, tmp_path / "out")  # the whole file is sound; and what PyTorch loads late is loaded now
    for owner, function in ((os, "system"), (pickle, "loads"), (pickle, "load"), (torch, "load")):
        monkeypatch.setattr(owner, function, alarm)
    tracemalloc.start()
    for _ in range(60):
        path.write_bytes(damage(valid[name], rng))
        try:
            import_checkpoint(path, tmp_path / "out", overwrite=True)
        except CheckpointError as err:
            sentences.append(str(err))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(sentences) > 20
    assert [one for one in sentences if not re.fullmatch(rf"{name} [^\n]{{5,250}}\.", one)] == []
    assert peak < 5_000_000  # the files have 9 to 40 kB
