"""What a JPEG stream says about itself: quantisation tables, sampling and colour transform, marker by marker.

TIFF tags repeat some of it and are often wrong; these markers are what a decoder obeys.

References: ITU-T T.81 (JPEG), annex B; Adobe TN 5116 for APP14.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from .errors import CodecError

Transform = Literal["rgb", "ycbcr"]
Sampling = Literal["4:4:4", "4:2:2", "4:2:0"]

# A JPEG scans its 64 coefficients in zigzag order: ZIGZAG[i] is the row-major index of the i-th scanned one.
ZIGZAG = tuple(
    row * 8 + column
    for row, column in sorted(
        ((row, column) for row in range(8) for column in range(8)),
        key=lambda rc: (rc[0] + rc[1], rc[0] if (rc[0] + rc[1]) % 2 else rc[1]),
    )
)

_SOI, _EOI, _SOS, _DQT, _APP0, _APP14 = 0xD8, 0xD9, 0xDA, 0xDB, 0xE0, 0xEE
_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
_OTHER_SOF = frozenset({0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})  # lossless, arithmetic ...


@dataclass(frozen=True)
class Component:
    """One colour component of a frame: its id, its sampling factors, and the number of its quantisation table."""

    identifier: int
    horizontal: int
    vertical: int
    table: int


@dataclass(frozen=True)
class JpegHeader:
    """A stream up to its first scan.

    Attributes:
        tables: Table number -> 64 steps in row-major order of frequency.
        components: Of the frame; empty in a tables-only stream.
        adobe_transform: APP14's colour transform (0 none, 1 YCbCr, 2 YCCK), or ``None`` without that marker.
        has_jfif: Whether APP0 says JFIF, which means YCbCr.
        width: Of the frame, pixels; 0 in a tables-only stream.
        height: Of the frame, pixels.
    """

    tables: dict[int, tuple[int, ...]]
    components: tuple[Component, ...] = ()
    adobe_transform: int | None = None
    has_jfif: bool = False
    width: int = 0
    height: int = 0

    def over(self, shared: JpegHeader) -> JpegHeader:
        """An abbreviated stream on top of the tables-only stream that it shares with others (TIFF's JPEGTables)."""
        transform = shared.adobe_transform if self.adobe_transform is None else self.adobe_transform
        jfif = self.has_jfif or shared.has_jfif
        return JpegHeader(shared.tables | self.tables, self.components, transform, jfif, self.width, self.height)

    @property
    def transform(self) -> Transform | None:
        """How the stream's markers say that colours are coded; ``None`` where they are silent.

        Streams inside a TIFF often are: the container's photometric tag then decides.

        Raises:
            CodecError: If the stream has not three components.
        """
        if len(self.components) != 3:
            raise CodecError(f"the JPEG stream has {len(self.components)} colour components, 3 are wanted.")
        if self.has_jfif:
            return "ycbcr"
        if self.adobe_transform is not None:
            return "rgb" if self.adobe_transform == 0 else "ycbcr"
        return "rgb" if tuple(c.identifier for c in self.components) == tuple(b"RGB") else None

    @property
    def sampling(self) -> Sampling:
        """How finely colours are sampled.

        Raises:
            CodecError: If the stream samples otherwise.
        """
        factors = [(c.horizontal, c.vertical) for c in self.components]
        if len(set(factors)) == 1:
            return "4:4:4"
        known: dict[tuple[int, int], Sampling] = {(2, 1): "4:2:2", (2, 2): "4:2:0"}
        if factors[0] in known and all(pair == (1, 1) for pair in factors[1:]):
            return known[factors[0]]
        raise CodecError(f"the JPEG stream samples colours as {factors}; 4:4:4, 4:2:2 and 4:2:0 can be replayed.")

    @property
    def component_tables(self) -> tuple[tuple[int, ...], ...]:
        """The quantisation table of each component, row-major.

        Raises:
            CodecError: If a component names a table that is not there.
        """
        missing = [c.table for c in self.components if c.table not in self.tables]
        if missing:
            raise CodecError(f"the JPEG stream lacks its quantisation table {missing[0]}.")
        return tuple(self.tables[c.table] for c in self.components)


def parse_jpeg(stream: bytes) -> JpegHeader:
    """Read the markers of a JPEG stream, whole, abbreviated or tables-only, up to the first scan.

    Raises:
        CodecError: If it is not a JPEG stream, breaks off inside a marker, or is of a kind that is not replayed
            (progressive, lossless, arithmetic, 12-bit).
    """
    tables: dict[int, tuple[int, ...]] = {}
    components: tuple[Component, ...] = ()
    transform, jfif, width, height = None, False, 0, 0
    for marker, body in _segments(stream):
        if marker == _DQT:
            tables |= _quantisation_tables(body)
        elif marker in {_BASELINE, _EXTENDED}:
            width, height, components = _frame(body)
        elif marker == _PROGRESSIVE or marker in _OTHER_SOF:
            raise CodecError(
                f"the JPEG stream is not sequential Huffman-coded (SOF{marker - 0xC0}); it cannot be replayed."
            )
        elif marker == _APP14 and body[:5] == b"Adobe" and len(body) >= 12:
            transform = body[11]
        elif marker == _APP0 and body[:5] == b"JFIF\0":
            jfif = True
    return JpegHeader(tables, components, transform, jfif, width, height)


def _segments(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, body) of each segment up to the first scan or the end."""
    if stream[:2] != bytes((0xFF, _SOI)):
        raise CodecError(f"not a JPEG stream: it starts with {stream[:2].hex(' ') or 'nothing'} instead of ff d8.")
    at = 2
    while at < len(stream):
        while at < len(stream) - 1 and stream[at] == 0xFF and stream[at + 1] == 0xFF:
            at += 1  # fill bytes
        if at + 2 > len(stream) or stream[at] != 0xFF:
            raise CodecError(f"the JPEG stream is broken at byte {at}: a marker was expected.")
        marker = stream[at + 1]
        if marker in {_EOI, _SOS}:
            return
        (length,) = struct.unpack(">H", stream[at + 2 : at + 4].rjust(2, b"\0"))
        body = stream[at + 4 : at + 2 + length]
        if length < 2 or len(body) != length - 2:
            raise CodecError(f"the JPEG stream breaks off inside its segment ff {marker:02x}.")
        yield marker, body
        at += 2 + length


def _quantisation_tables(body: bytes) -> dict[int, tuple[int, ...]]:
    tables: dict[int, tuple[int, ...]] = {}
    at = 0
    while at < len(body):
        wide, number = body[at] >> 4, body[at] & 15
        steps = struct.unpack_from(">64H" if wide else ">64B", body.ljust(at + 129, b"\0"), at + 1)
        at += 129 if wide else 65
        if at > len(body) or 0 in steps:
            raise CodecError("the JPEG stream's quantisation tables are broken.")
        table = [0] * 64
        for scanned, place in enumerate(ZIGZAG):
            table[place] = steps[scanned]
        tables[number] = tuple(table)
    return tables


def _frame(body: bytes) -> tuple[int, int, tuple[Component, ...]]:
    if len(body) < 6 or len(body) < 6 + 3 * body[5]:
        raise CodecError("the JPEG stream's frame header is broken.")
    bits, height, width, count = struct.unpack(">BHHB", body[:6])
    if bits != 8:
        raise CodecError(f"the JPEG stream has {bits} bits a sample, 8 are wanted.")
    fields = [body[6 + 3 * i : 9 + 3 * i] for i in range(count)]
    return width, height, tuple(Component(f[0], f[1] >> 4, f[1] & 15, f[2]) for f in fields)
