"""What foreign checkpoints are made of, as plain records: tensors, arrays, modules, networks.

Each builder takes the arguments that stand in the stream where the foreign project would have called a function of its
own, checks their kinds and sizes, and makes a record. A size is compared with the data that is there before anything is
allocated, and a tensor's memory is taken only when its numbers are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .unpickle import Builder, Refused, shown

MAX_DIMENSIONS = 8
MAX_SIZE = 2**40  # of one dimension, and of one stride
MAX_DEPTH = 16  # of modules within modules
MAX_MODULES = 20_000  # visited in one network

STORAGES = {
    f"torch.{name}Storage": dtype
    for name, dtype in {
        "Float": torch.float32, "Double": torch.float64, "Half": torch.float16, "BFloat16": torch.bfloat16,
        "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
        "Bool": torch.bool,
    }.items()
}  # fmt: skip
ARRAYS = {
    "f2": torch.float16, "f4": torch.float32, "f8": torch.float64, "i1": torch.int8, "i2": torch.int16,
    "i4": torch.int32, "i8": torch.int64, "u1": torch.uint8, "b1": torch.bool,
}  # fmt: skip


@dataclass
class Storage:
    """``numel`` numbers in a row; ``fetch`` brings their bytes, little-endian."""

    dtype: torch.dtype
    numel: int
    fetch: Callable[[], bytes]


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is known to lie within its storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def numel(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes its numbers take."""
        return self.numel * self.storage.dtype.itemsize

    @property
    def origin(self) -> int:
        """The same for all tensors that share their data."""
        return id(self.storage)

    @property
    def origin_nbytes(self) -> int:
        """How many bytes the data has that it may share."""
        return self.storage.numel * self.storage.dtype.itemsize

    def tensor(self) -> Tensor:
        """A copy with memory of its own."""
        if 0 in self.shape:
            raise Refused("holds an empty tensor where numbers are needed")
        data = _from_bytes(self.storage.fetch(), self.storage.dtype, self.storage.numel)
        return data.as_strided(self.shape, self.stride, self.offset).clone()


@dataclass
class DType:
    """NumPy's type of numbers; little-endian ones are read."""

    dtype: torch.dtype

    def build(self, state: Any) -> None:
        """Take the byte order."""
        match state:
            case (int(), "<" | "|" | "=", None, None, None, *_):
                return
        raise Refused("holds an array of an unknown type of numbers")


@dataclass
class Array:
    """A NumPy array."""

    shape: tuple[int, ...] = (0,)
    data: bytes = b""
    dtype: torch.dtype = torch.float32
    is_fortran: bool = False

    @property
    def numel(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes its numbers take."""
        return len(self.data)

    @property
    def origin(self) -> int:
        """The same for all names of the same array."""
        return id(self)

    origin_nbytes = nbytes

    def build(self, state: Any) -> None:
        """Take shape, type, order and numbers."""
        match state:
            case (int(), tuple() as shape, DType(dtype), bool() as is_fortran, bytes() as data):
                if _count(shape) * dtype.itemsize != len(data):
                    raise Refused("holds an array whose size is not that of its data")
                self.shape, self.dtype, self.is_fortran, self.data = shape, dtype, is_fortran, data
            case _:
                raise Refused("holds an array of an unknown form")

    def tensor(self) -> Tensor:
        """A copy with memory of its own."""
        flat = _from_bytes(self.data, self.dtype, _count(self.shape))
        if not self.is_fortran:
            return flat.reshape(self.shape)
        return flat.reshape(self.shape[::-1]).permute(*reversed(range(len(self.shape)))).contiguous()


@dataclass(frozen=True)
class PersistentModule:
    """A module of stylegan2-ada-pytorch. The Python source that comes with it is not looked at."""

    state: Mapping[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments that it was made with, nested ones brought to the top."""
        given = self.state.get("_init_kwargs")
        flat: dict[str, Any] = {}
        for name, value in given.items() if isinstance(given, dict) else ():
            flat |= value if isinstance(value, dict) else {name: value}
        return flat

    def tensors(self) -> dict[str, StoredTensor]:
        """Parameters and buffers by dotted name, as PyTorch's ``state_dict`` would name them."""
        found: dict[str, StoredTensor] = {}
        for visited, (prefix, module) in enumerate(self._walk("", MAX_DEPTH)):
            if visited >= MAX_MODULES:
                raise Refused("holds more modules than any network has")
            for name, value in {**_dict(module.state, "_parameters"), **_dict(module.state, "_buffers")}.items():
                if isinstance(value, StoredTensor):
                    found[f"{prefix}{name}"] = value
                elif value is not None:
                    raise Refused(f"holds something else where the tensor {shown(f'{prefix}{name}')} should be")
        return found

    def _walk(self, prefix: str, depth: int) -> Iterator[tuple[str, PersistentModule]]:
        if depth == 0:
            raise Refused("holds modules nested too deeply")
        yield prefix, self
        for name, module in _dict(self.state, "_modules").items():
            if not isinstance(module, PersistentModule):
                raise Refused(f"holds something else where the module {shown(f'{prefix}{name}')} should be")
            yield from module._walk(f"{prefix}{name}.", depth - 1)


class TFNetwork:
    """A network of the TensorFlow releases. The Python source that comes with it is not looked at."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    def build(self, state: Any) -> None:
        """Take the pickled state."""
        if not isinstance(state, dict):
            raise Refused("holds a network without its variables")
        self.state = state

    @property
    def parts(self) -> dict[str, TFNetwork]:
        """The networks that it is made of: of a generator, "mapping" and "synthesis"."""
        return {name: part for name, part in _dict(self.state, "components").items() if isinstance(part, TFNetwork)}

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments that it and its parts were made with."""
        settings = dict(_dict(self.state, "static_kwargs"))
        for part in self.parts.values():
            settings |= _dict(part.state, "static_kwargs")
        return settings

    def tensors(self) -> dict[str, Array]:
        """Variables by name; those of the parts as "part/name"."""
        found = self._own()
        for name, part in self.parts.items():
            found |= {f"{name}/{key}": value for key, value in part._own().items()}
        return found

    def _own(self) -> dict[str, Array]:
        variables = self.state.get("variables")
        found = {}
        for item in variables if isinstance(variables, list) else ():
            match item:
                case (str() as name, Array() as value):
                    found[name] = value
                case _:
                    raise Refused("holds something else where a network's variable should be")
        return found


class Unread:
    """A record of which nothing is needed: the arguments of a training run."""

    def build(self, state: Any) -> None:
        """Take the state and drop it."""


def rebuild_tensor(arguments: tuple[Any, ...]) -> StoredTensor:
    """`torch._utils._rebuild_tensor_v2`: storage, offset, shape, stride, requires_grad, hooks."""
    match arguments:
        case (Storage() as storage, int() as offset, tuple() as shape, tuple() as stride, bool(), dict(), *_):
            count = _count(shape)
            if len(stride) != len(shape) or not all(isinstance(step, int) and 0 <= step < MAX_SIZE for step in stride):
                raise Refused("holds a tensor of an unknown layout")
            last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
            if offset < 0 or count > storage.numel or (count and last >= storage.numel):
                raise Refused("claims a tensor that reaches beyond its data")
            return StoredTensor(storage, offset, shape, stride)
    raise Refused("holds a tensor of an unknown form")


def rebuild_parameter(arguments: tuple[Any, ...]) -> StoredTensor:
    """`torch._utils._rebuild_parameter`: tensor, requires_grad, hooks."""
    match arguments:
        case (StoredTensor() as tensor, bool(), dict()):
            return tensor
    raise Refused("holds something else where a parameter should be")


def rebuild_module(arguments: tuple[Any, ...]) -> PersistentModule:
    """`torch_utils.persistence._reconstruct_persistent_obj`: type, version, source, class, state."""
    match arguments:
        case ({"type": "class", "state": dict() as state},):
            return PersistentModule(state)
    raise Refused("holds a module of an unknown form")


def rebuild_array(arguments: tuple[Any, ...]) -> Array:
    """`numpy.core.multiarray._reconstruct`: an empty array, whose state follows."""
    match arguments:
        case (_, (0,), bytes()) if getattr(arguments[0], "dotted", "") == "numpy.ndarray":
            return Array()
    raise Refused("holds an array of an unknown form")


def rebuild_dtype(arguments: tuple[Any, ...]) -> DType:
    """`numpy.dtype`, whose byte order follows."""
    match arguments:
        case (str() as code, bool(), bool()) if code in ARRAYS:
            return DType(ARRAYS[code])
    raise Refused("holds an array of an unknown type of numbers")


def rebuild_scalar(arguments: tuple[Any, ...]) -> Array:
    """`numpy.core.multiarray.scalar`: type, bytes."""
    match arguments:
        case (DType(dtype), bytes() as data) if len(data) == dtype.itemsize:
            return Array((), data, dtype)
    raise Refused("holds a number of an unknown type")


def empty(kind: Callable[[], Any]) -> Builder:
    """Return a builder of an empty container, whose items or state follow."""

    def build(arguments: tuple[Any, ...]) -> Any:
        if arguments not in ((), ([],)):
            raise Refused("holds a container of an unknown form")
        return kind()

    return build


def storage_dtype(name: Any) -> torch.dtype:
    """The type of numbers that a storage's name stands for."""
    dotted = getattr(name, "dotted", "")
    if dotted not in STORAGES:
        raise Refused("holds a tensor of an unknown type of numbers")
    return STORAGES[dotted]


def _count(shape: tuple[Any, ...]) -> int:
    if len(shape) > MAX_DIMENSIONS or not all(isinstance(size, int) and 0 <= size < MAX_SIZE for size in shape):
        raise Refused("holds a tensor of an impossible shape")
    return math.prod(shape)


def _from_bytes(data: bytes, dtype: torch.dtype, numel: int) -> Tensor:
    if len(data) != numel * dtype.itemsize:
        raise Refused("claims a tensor of another size than its data has")
    return torch.frombuffer(bytearray(data), dtype=dtype) if numel else torch.empty(0, dtype=dtype)


def _dict(state: Mapping[str, Any], name: str) -> dict[Any, Any]:
    value = state.get(name)
    return value if isinstance(value, dict) else {}
