"""Slides that somebody or something damaged: random bytes, cut ends, and tags that lie."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

Directory = list[tuple[int, int, int, int]]  # position of the entry, tag, kind, count

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION, SAMPLES = 256, 257, 258, 259, 262, 270, 277
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES, STRIP_OFFSETS, STRIP_BYTES = 322, 323, 324, 325, 273, 279
HUGE = (0, 1, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def mutate(slide: bytes, seed: int) -> tuple[str, bytes]:
    """What was done to a slide, and the slide; a classic little-endian TIFF goes in."""
    rng = np.random.default_rng(seed)
    names = list(MUTATIONS)
    name = names[seed % len(names)]
    data = bytearray(slide)
    return name, bytes(MUTATIONS[name](data, rng))


def write_mutant(slide: Path, out: Path, seed: int) -> Path:
    """A mutant of ``slide`` in the folder ``out``, named by its seed and by what was done to it."""
    name, data = mutate(slide.read_bytes(), seed)
    path = out / f"{seed:04d}-{name}.svs"
    path.write_bytes(data)
    return path


def _directories(data: bytes) -> list[tuple[int, Directory]]:
    """Where each directory begins, and its entries."""
    found, (at,) = [], struct.unpack_from("<I", data, 4)
    while at and len(found) < 16:
        (count,) = struct.unpack_from("<H", data, at)
        entries = [(at + 2 + 12 * i, *struct.unpack_from("<HHI", data, at + 2 + 12 * i)) for i in range(count)]
        found.append((at, entries))
        (at,) = struct.unpack_from("<I", data, at + 2 + 12 * count)
    return found


def _entry(data: bytes, tag: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """An entry of that tag, in any directory that has it."""
    found = [entry for _, directory in _directories(data) for entry in directory if entry[1] == tag]
    return found[int(rng.integers(len(found)))]


def _set(data: bytearray, entry: tuple[int, int, int, int], value: int, *, kind: int | None = None) -> bytearray:
    """Put a number into an entry's value field, as a LONG so that any fits."""
    struct.pack_into("<HI", data, entry[0] + 2, kind or 4, 1)
    struct.pack_into("<I", data, entry[0] + 8, value)
    return data


def _tag(*tags: int, values: tuple[int, ...] = HUGE) -> Callable[[bytearray, np.random.Generator], bytearray]:
    def change(data: bytearray, rng: np.random.Generator) -> bytearray:
        entry = _entry(data, int(rng.choice(tags)), rng)
        return _set(data, entry, int(rng.choice(values)))

    return change


def _random_bytes(data: bytearray, rng: np.random.Generator) -> bytearray:
    for at in rng.integers(0, len(data), int(rng.choice([1, 10, 100, 1000]))):
        data[at] = int(rng.integers(256))
    return data


def _random_run(data: bytearray, rng: np.random.Generator) -> bytearray:
    start, size = int(rng.integers(len(data))), int(rng.choice([64, 1024, 16384]))
    data[start : start + size] = rng.bytes(len(data[start : start + size]))
    return data


def _header_bytes(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Random bytes in the directories alone, where they hurt most."""
    places = [at for _, directory in _directories(data) for entry in directory for at in range(entry[0], entry[0] + 12)]
    for at in rng.choice(places, int(rng.integers(1, 6))):
        data[at] = int(rng.integers(256))
    return data


def _truncated(data: bytearray, rng: np.random.Generator) -> bytearray:
    return data[: int(rng.integers(0, len(data)))]


def _moved_up(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Bytes are missing in the middle, as after a broken transfer in text mode."""
    at = int(rng.integers(8, len(data)))
    del data[at : at + int(rng.integers(1, 500))]
    return data


def _cycle(data: bytearray, rng: np.random.Generator) -> bytearray:
    """A directory whose successor is itself or an earlier one."""
    directories = _directories(data)
    at, entries = directories[int(rng.integers(len(directories)))]
    target = directories[int(rng.integers(len(directories)))][0]
    struct.pack_into("<I", data, at + 2 + 12 * len(entries), target)
    return data


def _many_tiles(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Counts of tiles that no file of this size could hold."""
    for tag in (TILE_OFFSETS, TILE_BYTES):
        struct.pack_into("<I", data, _entry(data, tag, rng)[0] + 4, int(rng.choice(HUGE)))
    return data


def _giant(data: bytearray, rng: np.random.Generator) -> bytearray:
    """A slide of terapixels by its tags."""
    for tag in (WIDTH, HEIGHT):
        _set(data, _directories(data)[0][1][[e[1] for e in _directories(data)[0][1]].index(tag)], int(rng.choice(HUGE)))
    return data


def _tile_places(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Tiles that lie outside the file, or are longer than it."""
    entry = _entry(data, int(rng.choice([TILE_OFFSETS, TILE_BYTES])), rng)
    if entry[3] < 2:
        return _set(data, entry, int(rng.choice(HUGE)))
    (start,) = struct.unpack_from("<I", data, entry[0] + 8)
    for index in rng.integers(0, entry[3], 5):
        struct.pack_into("<I", data, start + 4 * int(index), int(rng.choice(HUGE)))
    return data


def _description(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Words of the description that readers take for numbers."""
    words = (b"MPP = 1e400", b"MPP = -0.25", b"MPP = nan\0\0", b"AppMag = x", b"%s%n%n%n%n", b"]]]](((((", b"\xff" * 12)
    entry = _entry(data, DESCRIPTION, rng)
    (start,) = struct.unpack_from("<I", data, entry[0] + 8)
    word = words[int(rng.integers(len(words)))]
    at = start + int(rng.integers(0, max(1, entry[3] - len(word))))
    data[at : at + len(word)] = word
    return data


MUTATIONS: dict[str, Callable[[bytearray, np.random.Generator], bytearray]] = {
    "random-bytes": _random_bytes,
    "random-run": _random_run,
    "header-bytes": _header_bytes,
    "truncated": _truncated,
    "moved-up": _moved_up,
    "cycle": _cycle,
    "many-tiles": _many_tiles,
    "giant": _giant,
    "tile-places": _tile_places,
    "tile-size": _tag(TILE_WIDTH, TILE_HEIGHT),
    "size": _tag(WIDTH, HEIGHT),
    "format": _tag(
        COMPRESSION, PHOTOMETRIC, SAMPLES, BITS, values=(0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 33003, 34712, 65535)
    ),
    "description": _description,
}
