"""How a slide's level 0 was compressed, every generation that is known, read from the file itself.

The last generation stands in the JPEG streams. Older ones are lost to the file, but Aperio's ImageDescription still
names them, with the crop between the generations: that places the older grid on the present one.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import tifffile

from .errors import CodecError, SlideNotFound
from .jpeg2000 import Jpeg2000, parse_jpeg2000
from .jpegstream import JpegHeader, Sampling, Transform, parse_jpeg

Kind = Literal["jpeg", "jpeg2000", "lossless"]
Table = tuple[int, ...]  # 64 quantisation steps, row-major

# T.81 annex K.1, row-major: the luminance table that libjpeg scales by its quality setting.
STANDARD_LUMINANCE: Table = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip

_JPEG = 7
_YCBCR = 6  # TIFF's photometric number; what a JPEG file without markers means
_JPEG2000 = {33003: "ycbcr", 33004: "rgb", 33005: "rgb", 34712: "rgb"}  # Aperio's numbers, and the registered one
_LOSSLESS = frozenset({1, 5, 8, 32773, 32946, 50000})  # none, LZW, Deflate, PackBits, Deflate, Zstandard
_PHOTOMETRIC: dict[int, Transform] = {2: "rgb", 6: "ycbcr"}
_PROBES = 16  # tiles whose tables are compared: a slide may be stitched from several streams

# 46000x32914 [42673,5576 2220x2967] (240x240) JPEG/RGB Q=30: source size, crop (left, top, width, height), tile, codec
_RECORD = re.compile(
    r"(?P<width>\d+)x(?P<height>\d+) \[(?P<left>\d+),(?P<top>\d+) (?P<cropw>\d+)x(?P<croph>\d+)\] "
    r"\((?P<tilew>\d+)x(?P<tileh>\d+)\)(?P<rescaled> -> \d+x\d+)? (?P<codec>[A-Z0-9/]+) Q=(?P<quality>\d+)"
)


@dataclass(frozen=True)
class JpegGeneration:
    """One JPEG compression in a slide's past.

    Attributes:
        tables: The quantisation table of each of the three components, row-major.
        sampling: How finely the second and third component are sampled.
        transform: Whether the components are RGB as they stand, or YCbCr.
        phase: Where a block's left and top edge lie on the present level 0, pixels, 0 to 7 (to 15 where subsampled).
        quality: The quality that the file states, if it does.
        evidence: "stream" if the tables were read from the file, "ImageDescription" if they follow from its text.
    """

    tables: tuple[Table, Table, Table]
    sampling: Sampling
    transform: Transform
    phase: tuple[int, int] = (0, 0)
    quality: int | None = None
    evidence: Literal["stream", "ImageDescription"] = "stream"

    @property
    def unit_px(self) -> tuple[int, int]:
        """Width and height of the smallest area that is coded alone, pixels."""
        return {"4:4:4": (8, 8), "4:2:2": (16, 8), "4:2:0": (16, 16)}[self.sampling]

    @property
    def tables_digest(self) -> str:
        """The sha256 of the three tables."""
        return hashlib.sha256(json.dumps(self.tables).encode()).hexdigest()


@dataclass(frozen=True)
class Codec:
    """How level 0 of a slide was compressed.

    Attributes:
        kind: The present compression.
        generations: The JPEG compressions that are known, oldest first; the last one is the present one.
        tile_width: Of the stored tiles, pixels.
        tile_height: Of the stored tiles, pixels.
        jpeg2000: The parameters of a JPEG 2000 slide.
        notes: What is known of the past but cannot be replayed, a sentence each.
    """

    kind: Kind
    generations: tuple[JpegGeneration, ...]
    tile_width: int
    tile_height: int
    jpeg2000: Jpeg2000 | None = None
    notes: tuple[str, ...] = ()

    @property
    def last(self) -> JpegGeneration:
        """The present JPEG compression.

        Raises:
            CodecError: If the slide is not JPEG.
        """
        if not self.generations:
            raise CodecError(f"the slide's codec is {self.kind}: it has no JPEG generation.")
        return self.generations[-1]

    @property
    def digest(self) -> str:
        """The sha256 of everything above."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The codec for a card; ``from_json`` reads it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Codec:
        """The codec that ``to_json`` wrote.

        Raises:
            CodecError: If a field is missing or foreign.
        """
        try:
            generations = tuple(
                JpegGeneration(**g | {"tables": tuple(map(tuple, g["tables"])), "phase": tuple(g["phase"])})
                for g in data["generations"]
            )
            jpeg2000 = None if data["jpeg2000"] is None else Jpeg2000(**data["jpeg2000"])
            return cls(**data | {"generations": generations, "jpeg2000": jpeg2000, "notes": tuple(data["notes"])})
        except (KeyError, TypeError) as err:
            raise CodecError(f"not a codec written by this version ({err}).") from err

    def manifest_fields(self, x_level0: int, y_level0: int) -> dict[str, Any]:
        """The manifest's codec columns for a patch cut at level 0 at (x, y)."""
        if not self.generations:
            return {"codec": self.kind}
        width, height = self.last.unit_px
        return {
            "codec": self.kind,
            "jpeg_tables_digest": self.last.tables_digest,
            "jpeg_subsampling": self.last.sampling,
            "grid_phase_x": (self.last.phase[0] - x_level0) % width,
            "grid_phase_y": (self.last.phase[1] - y_level0) % height,
        }


def read_codec(path: Path | str) -> Codec:
    """The codec of a slide's level 0.

    Raises:
        SlideNotFound: If no file is there.
        CodecError: If the file is no TIFF, or its compression is one that cannot be described.
    """
    path = Path(path)
    if not path.is_file():
        raise SlideNotFound(f"{path.name}: no such file.")
    try:
        with tifffile.TiffFile(path) as tiff:
            return _page_codec(tiff.pages[0], tiff.filehandle)
    except CodecError as err:
        raise CodecError(f"{path.name}: {err}") from err
    except (tifffile.TiffFileError, OSError, struct.error, IndexError, KeyError, ValueError) as err:
        raise CodecError(f"{path.name}: its codec can be read from TIFF-based slides only ({err}).") from err


def image_codec(path: Path | str) -> Codec | None:
    """The codec of a plain image file: its JPEG stream's, or ``None`` for the lossless formats.

    Raises:
        CodecError: If it is a JPEG of a kind that cannot be replayed.
    """
    path = Path(path)
    if path.suffix.lower() not in {".jpg", ".jpeg"}:
        return None
    try:
        header = parse_jpeg(path.read_bytes())
        generation = _generation(header, _YCBCR)
    except CodecError as err:
        raise CodecError(f"{path.name}: {err}") from err
    return Codec("jpeg", (generation,), header.width, header.height)


@cache
def standard_table(quality: int) -> Table:
    """The luminance table of libjpeg at a quality of 1 to 100, row-major.

    >>> standard_table(50) == STANDARD_LUMINANCE
    True
    """
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return tuple(min(max((step * scale + 50) // 100, 1), 255) for step in STANDARD_LUMINANCE)


def older_generations(description: str, last: JpegGeneration) -> tuple[tuple[JpegGeneration, ...], tuple[str, ...]]:
    """The generations before ``last`` that an Aperio ImageDescription tells of, oldest first, and what stays unknown.

    Records stand newest first. A record's crop is cut from the image that the next, older record wrote; summed up,
    the crops place the older grid. The stated quality is taken for libjpeg's only if it explains the present tables.
    """
    records = [match.groupdict() for match in _RECORD.finditer(description)]
    if len(records) < 2:
        return (), ()
    found: list[JpegGeneration] = []
    newest, left, top = records[0], 0, 0
    for newer, older in pairwise(records):
        left, top = left + int(newer["left"]), top + int(newer["top"])
        quality = int(older["quality"])
        reason = _unreplayable(newest, newer, older, last)
        if reason:
            notes = (f"an older compression ({older['codec']} Q={quality}) is not replayed: {reason}",)
            return tuple(reversed(found)), notes
        width, height = last.unit_px
        table = standard_table(quality)
        phase = (-left % width, -top % height)
        found.append(JpegGeneration((table,) * 3, last.sampling, last.transform, phase, quality, "ImageDescription"))
    return tuple(reversed(found)), ()


def compression_records(description: str) -> list[str]:
    """The records of an Aperio ImageDescription that tell of compressions, newest first, without anything else in it.

    >>> compression_records("Aperio v1 2220x2967 [0,0 20x29] (240x240) JPEG/RGB Q=30|User = Me")
    ['2220x2967 [0,0 20x29] (240x240) JPEG/RGB Q=30']
    """
    return [match.group(0) for match in _RECORD.finditer(description)]


def _unreplayable(newest: dict[str, Any], newer: dict[str, Any], older: dict[str, Any], last: JpegGeneration) -> str:
    """Why a generation cannot be placed or rebuilt; empty if it can."""
    written = (older["cropw"], older["croph"])
    if newer["rescaled"] or older["rescaled"]:
        return "the image was rescaled since."
    if written != (newer["width"], newer["height"]):
        return f"it wrote {written[0]} x {written[1]} px, but {newer['width']} x {newer['height']} px were read."
    if older["codec"] != newest["codec"] or not older["codec"].startswith("JPEG"):
        return f"its codec differs from the present {newest['codec']}, so its sampling is unknown."
    if last.transform != "rgb" or last.tables != (standard_table(int(newest["quality"])),) * 3:
        return "the present tables are not libjpeg's for the stated quality, so the older ones cannot be inferred."
    return ""


def _page_codec(page: Any, file: Any) -> Codec:
    compression, width, height = int(page.compression), int(page.tilewidth), int(page.tilelength)
    if not page.is_tiled:
        width, height = int(page.imagewidth), int(page.rowsperstrip)
    if compression in _LOSSLESS:
        return Codec("lossless", (), width, height)
    if compression in _JPEG2000:
        streams = _probe(page, file)
        limit = max(int(size) for size in page.databytecounts)
        return Codec("jpeg2000", (), width, height, parse_jpeg2000(streams, _JPEG2000[compression], limit))
    if compression != _JPEG:
        raise CodecError(f"level 0 is compressed by TIFF method {compression}, which cannot be replayed.")
    last = _last_generation(page, _probe(page, file))
    older, notes = older_generations(str(page.description), last)
    return Codec("jpeg", (*older, last), width, height, notes=notes)


def _probe(page: Any, file: Any) -> list[bytes]:
    """The streams of a few tiles spread over the level."""
    count = len(page.dataoffsets)
    chosen = sorted({count * i // _PROBES for i in range(_PROBES)})
    streams = []
    for index in chosen:
        size = int(page.databytecounts[index])
        if size:  # Aperio leaves tiles of bare glass out
            file.seek(int(page.dataoffsets[index]))
            streams.append(file.read(min(size, 1 << 20)))
    if not streams:
        raise CodecError("level 0 has no tile with data.")
    return streams


def _last_generation(page: Any, streams: Sequence[bytes]) -> JpegGeneration:
    tag = page.tags.get(347)  # JPEGTables: what the abbreviated streams share
    shared = parse_jpeg(bytes(tag.value)) if tag is not None else JpegHeader({})
    found = {_generation(parse_jpeg(stream).over(shared), int(page.photometric)) for stream in streams}
    if len(found) > 1:
        raise CodecError("its tiles were compressed with different JPEG tables, so no single codec can be replayed.")
    return found.pop()


def _generation(header: JpegHeader, photometric: int) -> JpegGeneration:
    stated, tagged = header.transform, _PHOTOMETRIC.get(photometric)
    if stated is not None and tagged is not None and stated != tagged:
        raise CodecError(f"its JPEG streams are coded as {stated}, but its TIFF photometric tag says {tagged}.")
    transform = stated or tagged
    if transform is None:
        raise CodecError(f"neither its JPEG streams nor its TIFF photometric tag ({photometric}) says RGB or YCbCr.")
    tables = header.component_tables
    quality = next((q for q in range(1, 101) if standard_table(q) == tables[0]), None)
    return JpegGeneration((tables[0], tables[1], tables[2]), header.sampling, transform, quality=quality)
