"""Files of other projects as plain values and records: read by `DataReader`, so that nothing in them runs.

Three containers: a pickle (.pkl of stylegan2-ada-pytorch, StyleGAN3's code and TensorFlow), and both of PyTorch's own
(.pt: a zip since 1.6, a sequence of pickles and raw numbers before). PyTorch's storages inside a pickle are again files
of the older kind.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from histoforensics.slides import CheckpointError

from .records import (
    STORAGES,
    Storage,
    TFNetwork,
    Unread,
    empty,
    rebuild_array,
    rebuild_dtype,
    rebuild_module,
    rebuild_parameter,
    rebuild_scalar,
    rebuild_tensor,
    storage_dtype,
)
from .unpickle import Budget, Builder, DataReader, Refused, shown

MAX_FILE_BYTES = 2 * 1024**3
MAX_ENTRIES = 20_000  # of a zip
TORCH_MAGIC, TORCH_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
ZIP_START = b"PK\x03\x04"
ZIP_ENTRY = b"PK\x01\x02"
BROKEN_ZIP = (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, ValueError, EOFError, struct.error)


def read_foreign(path: Path) -> Any:
    """The value that a foreign checkpoint holds, as plain values and the records of `records`.

    Raises:
        CheckpointError: Not there, too large, damaged, or it asks for what no checkpoint of these projects needs.
    """
    if not path.is_file():
        raise CheckpointError(f"{path.name}: there is no such file; give the path of a .pkl or .pt file.")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise CheckpointError(f"{path.name} has {path.stat().st_size} bytes; at most {MAX_FILE_BYTES} are read.")
    try:
        return _read(path.read_bytes())
    except Refused as err:
        raise CheckpointError(f"{path.name} {err}.") from err


def _read(data: bytes) -> Any:
    budget = Budget(len(data))
    if data.startswith(ZIP_START):
        return _read_zip(data, budget)
    stream = BytesIO(data)
    try:
        begins_as_torch = DataReader(stream, {}, budget).read() == TORCH_MAGIC
    except Refused:  # then it is a pickle of something else, or nothing that can be read
        begins_as_torch = False
    stream.seek(0)
    if begins_as_torch:
        return _read_sequence(stream, PYTORCH, budget)
    return DataReader(stream, _pickled(budget), budget).read()


def _read_zip(data: bytes, budget: Budget) -> Any:
    """PyTorch's present container: data.pkl, and a file a storage. PyTorch never compresses, so nothing may swell."""
    if data.count(ZIP_ENTRY) > MAX_ENTRIES:
        raise Refused("holds more files than any checkpoint needs")
    try:
        archive = zipfile.ZipFile(BytesIO(data))
        entries = {entry.filename.partition("/")[2]: entry for entry in archive.infolist()}
    except BROKEN_ZIP as err:
        raise Refused("is damaged, cut short or not a checkpoint") from err
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
        raise Refused("is compressed, which PyTorch's checkpoints never are; it could swell without bound")
    if sum(entry.file_size for entry in entries.values()) > len(data):
        raise Refused("claims to hold more bytes than it has")

    storages: dict[str, Storage] = {}

    @cache  # tensors may share their data
    def fetch(name: str) -> bytes:
        if name not in entries:
            raise Refused(f"is not a PyTorch checkpoint: it lacks {shown(name)}")
        try:
            return archive.read(entries[name])
        except BROKEN_ZIP as err:
            raise Refused(f"is damaged at {shown(name)}") from err

    def persistent(identity: Any) -> Storage:
        match identity:
            case ("storage", _, str() as key, str(), int() as numel):
                dtype, entry = storage_dtype(identity[1]), entries.get(f"data/{key}")
                storage = storages.setdefault(key, Storage(dtype, numel, lambda: fetch(f"data/{key}")))
                if (storage.dtype, storage.numel) != (dtype, numel):
                    raise Refused("claims two sizes for the same data")
                if numel < 0 or entry is None or entry.file_size != numel * storage.dtype.itemsize:
                    raise Refused("claims a tensor of another size than its data has")
                return storage
        raise Refused("refers to data in an unknown way")

    if "byteorder" in entries and fetch("byteorder") != b"little":
        raise Refused("was written on a big-endian machine, which is not read")
    return DataReader(BytesIO(fetch("data.pkl")), PYTORCH, budget, persistent).read()


def _read_sequence(stream: BytesIO, known: Mapping[str, Builder | None], budget: Budget) -> Any:
    """PyTorch's older container: magic number, version, machine, value, keys of the storages, then their numbers."""
    magic, protocol, machine = (DataReader(stream, {}, budget).read() for _ in range(3))
    if magic != TORCH_MAGIC or protocol != TORCH_PROTOCOL:
        raise Refused("holds data that is not PyTorch's")
    if not (isinstance(machine, dict) and machine.get("little_endian") is True):
        raise Refused("was written on a big-endian machine, which is not read")
    storages: dict[str, Storage] = {}

    def persistent(identity: Any) -> Storage:
        match identity:
            case ("storage", _, str() as key, str(), int() as numel, None):
                dtype = storage_dtype(identity[1])
                if numel < 0 or numel * dtype.itemsize > stream.getbuffer().nbytes:
                    raise Refused("claims a tensor of another size than its data has")
                storage = storages.setdefault(key, Storage(dtype, numel, bytes))
                if (storage.dtype, storage.numel) != (dtype, numel):
                    raise Refused("claims two sizes for the same data")
                return storage
        raise Refused("refers to data in an unknown way")

    value = DataReader(stream, known, budget, persistent).read()
    keys = DataReader(stream, {}, budget).read()
    if not (isinstance(keys, list) and all(isinstance(key, str) for key in keys) and sorted(keys) == sorted(storages)):
        raise Refused("is damaged: its list of data does not fit")
    for key in keys:
        _take_numbers(stream, storages[key])
    return value


def _take_numbers(stream: BytesIO, storage: Storage) -> None:
    count, data = stream.read(8), b""
    if count == struct.pack("<q", storage.numel):
        data = stream.read(storage.numel * storage.dtype.itemsize)
    if len(data) != storage.numel * storage.dtype.itemsize or len(count) != 8:
        raise Refused("is cut short, or claims a tensor of another size than its data has")
    storage.fetch = lambda: data


def _pickled(budget: Budget) -> dict[str, Builder | None]:
    """What a .pkl may name. A storage in it cannot name any of this: the nesting ends there."""

    def storage(arguments: tuple[Any, ...]) -> Storage:
        match arguments:
            case (bytes() as data,):
                found = _read_sequence(budget.open(data), dict.fromkeys(STORAGES), budget)
                if isinstance(found, Storage):
                    return found
        raise Refused("holds something else where a tensor's data should be")

    numpy: dict[str, Builder | None] = {"numpy.ndarray": None, "numpy.dtype": rebuild_dtype}
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):  # NumPy 1 and 2
        numpy |= {f"{module}._reconstruct": rebuild_array, f"{module}.scalar": rebuild_scalar}
    return numpy | {
        "torch_utils.persistence._reconstruct_persistent_obj": rebuild_module,
        "torch.storage._load_from_bytes": storage,
        "torch._utils._rebuild_parameter": rebuild_parameter,
        "torch._utils._rebuild_tensor_v2": rebuild_tensor,
        "collections.OrderedDict": empty(dict),
        "dnnlib.util.EasyDict": empty(dict),
        "builtins.set": empty(set),  # as Python 3.7 writes the empty set that modules carry
        "dnnlib.tflib.network.Network": empty(TFNetwork),
    }


PYTORCH: dict[str, Builder | None] = {
    **dict.fromkeys(STORAGES),
    "torch._utils._rebuild_parameter": rebuild_parameter,
    "torch._utils._rebuild_tensor_v2": rebuild_tensor,
    "collections.OrderedDict": empty(dict),
    "argparse.Namespace": empty(Unread),  # of rosinality's training files
}  # what a .pt may name
