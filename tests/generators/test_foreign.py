"""Foreign files as plain records: what PyTorch and NumPy wrote comes back; hostile files end in one sentence."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from histoforensics.generators import foreign
from histoforensics.generators.foreign import read_foreign
from histoforensics.generators.records import StoredTensor
from histoforensics.slides import CheckpointError


class Runs:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


def wanted_and(path, value, **options):
    torch.save(value, path, **options)
    return torch.load(path, weights_only=True), read_foreign(path)


def assert_equal(found, wanted):
    if isinstance(wanted, dict):
        assert list(found) == list(wanted)
        for key in wanted:
            assert_equal(found[key], wanted[key])
    elif isinstance(wanted, list | tuple):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_equal(one, other)
    elif isinstance(wanted, torch.Tensor):
        assert isinstance(found, StoredTensor)
        assert found.tensor().dtype == wanted.dtype
        assert torch.equal(found.tensor(), wanted)
    else:
        assert found == wanted


def patched(data: bytes, old: bytes, new: bytes) -> bytes:
    assert data.count(old) == 1
    return data.replace(old, new)


def refusal(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        read_foreign(path)
    sentence = str(caught.value)
    assert sentence.startswith(path.name)
    assert "\n" not in sentence
    return sentence


# --- what the projects' libraries write ---


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pytorch_file_is_read_as_pytorch_reads_it(tmp_path, zipped):
    layer = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    numbers = torch.arange(24.0)
    value = {
        "state": layer.state_dict(), "optimizer": optimizer.state_dict(), "view": numbers.view(4, 6).t()[1:4, ::2],
        "again": numbers, "scalar": torch.tensor(3.5), "parameter": nn.Parameter(torch.ones(2, 1)),
        "types": [torch.ones(3).to(getattr(torch, kind)) for kind in ("half", "bfloat16", "double", "int64", "uint8")],
    }  # fmt: skip
    theirs, ours = wanted_and(tmp_path / "a.pt", value, _use_new_zipfile_serialization=zipped)
    assert_equal(ours, theirs)


def test_a_namespace_is_a_record_of_which_nothing_is_kept(tmp_path):
    torch.save({"args": argparse.Namespace(size=256), "x": 1}, tmp_path / "a.pt")
    found = read_foreign(tmp_path / "a.pt")
    assert found["x"] == 1
    assert not hasattr(found["args"], "size")


@pytest.mark.parametrize("protocol", [3, 4])
def test_arrays_in_a_pickle_are_read_as_numpy_wrote_them(tmp_path, protocol):
    arrays = [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.float32).reshape(3, 2)),
        np.ones((), "f2"),
    ]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([*arrays, np.float32(2.5)], protocol))
    *found, scalar = read_foreign(tmp_path / "a.pkl")
    for ours, theirs in zip(found, arrays, strict=True):
        assert np.array_equal(ours.tensor().numpy(), theirs)
    assert scalar.tensor().item() == 2.5


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_parameters_in_a_pickle_are_read_as_pytorch_wrote_them(tmp_path, protocol):
    value = OrderedDict(a=nn.Parameter(torch.randn(2, 3)), b=torch.randn(4, 4).half().t())
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(value, protocol))
    assert_equal(read_foreign(tmp_path / "a.pkl"), {name: x.detach() for name, x in value.items()})


# --- hostile and broken files ---


def test_a_missing_and_a_huge_file_are_named(tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match=r"^a\.pkl: there is no such file"):
        read_foreign(tmp_path / "a.pkl")
    monkeypatch.setattr(foreign, "MAX_FILE_BYTES", 3)
    assert refusal(tmp_path / "a.pkl", b"abcd") == "a.pkl has 4 bytes; at most 3 are read."


@pytest.mark.parametrize("zipped", [True, False])
def test_a_payload_in_a_pytorch_file_is_refused(tmp_path, zipped):
    marker = tmp_path / "ran"
    torch.save({"g_ema": Runs(os.system, f"touch {marker}")}, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    sentence = refusal(tmp_path / "b.pt", (tmp_path / "a.pt").read_bytes())
    assert sentence == f"b.pt asks for {os.name}.system, which no checkpoint of these projects needs; nothing was run."
    assert not marker.exists()


@pytest.mark.parametrize("inner", ["plain", "pytorch"])
def test_a_payload_inside_the_bytes_of_a_storage_is_refused(tmp_path, inner):
    marker = tmp_path / "ran"
    buffer = io.BytesIO()
    if inner == "plain":
        buffer.write(pickle.dumps(Runs(os.system, f"touch {marker}")))
    else:
        torch.save(Runs(os.system, f"touch {marker}"), buffer, _use_new_zipfile_serialization=False)
    data = pickle.dumps(Runs(torch.storage._load_from_bytes, buffer.getvalue()))
    assert f"asks for {os.name}.system" in refusal(tmp_path / "a.pkl", data)
    assert not marker.exists()


def test_storages_do_not_nest(tmp_path):
    data = b"x"
    for _ in range(3):
        buffer = io.BytesIO()
        torch.save(Runs(torch.storage._load_from_bytes, data), buffer, _use_new_zipfile_serialization=False)
        data = buffer.getvalue()
    data = pickle.dumps(Runs(torch.storage._load_from_bytes, data))
    assert "asks for torch.storage._load_from_bytes" in refusal(tmp_path / "a.pkl", data)


def test_what_one_container_may_name_another_may_not(tmp_path):
    torch.save({"x": np.float64(1)}, tmp_path / "a.pt")
    assert "asks for numpy" in refusal(tmp_path / "b.pt", (tmp_path / "a.pt").read_bytes())
    assert "asks for argparse.Namespace" in refusal(tmp_path / "c.pkl", pickle.dumps(argparse.Namespace()))


def stored(numel=3, size=(3,), stride=(1,), offset=0, claim=None, kind="torch FloatStorage") -> bytes:
    """A pickle of a tensor, as Python's own writer would write it, with the sizes that are asked for."""
    buffer = io.BytesIO()
    storage = torch.arange(float(numel)).untyped_storage()
    typed = torch.storage.TypedStorage(
        wrap_storage=storage, dtype=torch.float32, _internal=True
    )  # quiet on deprecation
    torch.save(typed, buffer, _use_new_zipfile_serialization=False)
    inner = buffer.getvalue()
    number = b"K" + bytes([numel]) + b"Nt"  # numel, no view, end of the id
    assert inner.count(number) == 1
    if claim is not None:
        inner = inner.replace(number, b"\x8a\x08" + struct.pack("<q", claim) + b"Nt")
    inner = inner.replace(b"torch\nFloatStorage", kind.replace(" ", "\n").encode())
    value = Runs(
        torch._utils._rebuild_tensor_v2,
        Runs(torch.storage._load_from_bytes, inner),
        offset,
        size,
        stride,
        False,
        OrderedDict(),
    )
    return pickle.dumps(value)


def test_the_tensor_that_the_next_test_breaks_is_sound(tmp_path):
    (tmp_path / "a.pkl").write_bytes(stored())
    assert read_foreign(tmp_path / "a.pkl").tensor().tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"claim": 2**40}, "another size than its data has"),
        ({"claim": 2**62}, "another size than its data has"),
        ({"claim": -1}, "another size than its data has"),
        ({"claim": 4}, "another size than its data has"),
        ({"claim": 2}, "another size than its data has"),
        ({"size": (2**39,)}, "reaches beyond its data"),
        ({"size": (2**50,)}, "an impossible shape"),
        ({"size": (-1,)}, "an impossible shape"),
        ({"size": ("3",)}, "an impossible shape"),
        ({"size": (1,) * 9, "stride": (1,) * 9}, "an impossible shape"),
        ({"size": (1000, 1000), "stride": (0, 0)}, "reaches beyond its data"),
        ({"size": (2,), "stride": (3,)}, "reaches beyond its data"),
        ({"size": (1,), "stride": (2**70,)}, "an unknown layout"),
        ({"stride": (-1,)}, "an unknown layout"),
        ({"stride": (1, 1)}, "an unknown layout"),
        ({"offset": 1}, "reaches beyond its data"),
        ({"offset": -1}, "reaches beyond its data"),
        ({"size": [3]}, "a tensor of an unknown form"),
        ({"offset": "0"}, "a tensor of an unknown form"),
        ({"kind": "torch QInt8Storage"}, "asks for torch.QInt8Storage"),
        ({"kind": "torch ComplexFloatStorage"}, "asks for torch.ComplexFloatStorage"),
    ],
)
def test_a_tensor_that_is_not_what_its_data_holds_is_refused_without_memory(tmp_path, fields, message):
    data = stored(**fields)
    tracemalloc.start()
    try:
        assert message in refusal(tmp_path / "a.pkl", data)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array(["text"]), "an array of an unknown type of numbers"),
        (np.array([None]), "an array of an unknown type of numbers"),
        (np.zeros(3, ">f4"), "an array of an unknown type of numbers"),
        (np.zeros(2, [("a", "f4")]), "an array of an unknown type of numbers"),
        (np.complex64(1), "an array of an unknown type of numbers"),
        (np.ma.zeros(3), "asks for numpy.ma"),
    ],
)
def test_arrays_of_other_kinds_are_refused(tmp_path, value, message):
    assert message in refusal(tmp_path / "a.pkl", pickle.dumps(value))


def test_an_array_of_another_size_than_its_data_is_refused(tmp_path):
    data = pickle.dumps(np.zeros((7, 5), "f4"), 4)
    data = patched(data, b"K\x07K\x05\x86", b"J\xff\xff\xff\x7fK\x05\x86")
    assert "an array whose size is not that of its data" in refusal(tmp_path / "a.pkl", data)


def zip_of(entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(f"archive/{name}", content)
    return buffer.getvalue()


def torch_entries() -> dict[str, bytes]:
    buffer = io.BytesIO()
    torch.save({"x": torch.zeros(100)}, buffer)
    with zipfile.ZipFile(buffer) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def test_zips_that_are_not_as_pytorch_writes_them_are_refused(tmp_path):
    path, good = tmp_path / "a.pt", torch_entries()
    path.write_bytes(zip_of(good))
    assert read_foreign(path)["x"].tensor().shape == (100,)
    bomb = zip_of(good | {"data/0": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 100_000
    assert "compressed, which PyTorch's checkpoints never are" in refusal(path, bomb)
    assert "another size than its data has" in refusal(path, zip_of(good | {"data/0": bytes(404)}))
    assert "another size than its data has" in refusal(path, zip_of({k: v for k, v in good.items() if k != "data/0"}))
    assert "it lacks data.pkl" in refusal(path, zip_of({"data/0": b""}))
    assert "big-endian" in refusal(path, zip_of(good | {"byteorder": b"big"}))
    assert "damaged, cut short or not a checkpoint" in refusal(path, zip_of(good)[:300])


def test_a_zip_whose_files_lie_over_each_other_is_refused(tmp_path):
    """A zip bomb without compression: many entries of the directory show the same bytes."""
    data = zip_of({"data.pkl": b"N.", "data/0": bytes(1000)})
    start = data.index(b"PK\x01\x02")
    second = data.index(b"PK\x01\x02", start + 1)
    end = data.index(b"PK\x05\x06")
    entry = data[second:end]
    copies = b"".join(entry.replace(b"data/0", f"data/{i}".encode()) for i in range(1, 9))
    directory = data[start:end] + copies
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 10, 10, len(directory), start, 0)
    assert "claims to hold more bytes than it has" in refusal(tmp_path / "a.pt", data[:start] + directory + tail)


def test_a_zip_with_more_entries_than_any_checkpoint_is_refused_before_they_are_listed(tmp_path):
    data = zip_of({"data.pkl": b"N."}) + b"PK\x01\x02" * 20_001
    assert "more files than any checkpoint needs" in refusal(tmp_path / "a.pt", data)


def test_a_file_cut_short_anywhere_is_refused(tmp_path):
    torch.save({"x": torch.zeros(4)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    for whole in ((tmp_path / "a.pt").read_bytes(), stored()):
        for end in range(0, len(whole), 7):
            refusal(tmp_path / "b.pt", whole[:end])


def test_an_older_pytorch_file_of_another_machine_or_version_is_refused(tmp_path):
    torch.save({"x": torch.zeros(4)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    data = (tmp_path / "a.pt").read_bytes()
    big = patched(data, b"little_endianq\x02\x88", b"little_endianq\x02\x89")
    assert "big-endian" in refusal(tmp_path / "a.pt", big)
    assert "not PyTorch's" in refusal(tmp_path / "a.pt", data.replace(b"M\xe9\x03.", b"M\xea\x03.", 1))
