"""What a JPEG 2000 codestream says about itself, and the nearest round trip through the same parameters.

References: ITU-T T.800, annex A (SIZ, COD, QCD).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import CodecError

_SOC, _SIZ, _COD, _SOT, _EOC = 0xFF4F, 0xFF51, 0xFF52, 0xFF90, 0xFFD9


@dataclass(frozen=True)
class Jpeg2000:
    """Parameters of the tiles of a JPEG 2000 slide.

    Attributes:
        colour: "rgb" or "ycbcr", what the components are outside the codestream (Aperio's compression number).
        irreversible: Whether the 9-7 wavelet (lossy) was used; otherwise the 5-3.
        component_transform: Whether the codestream itself mixes the components.
        resolutions: Number of resolutions: decompositions + 1.
        codeblock_px: Edge lengths of a code block.
        layers: Quality layers.
        tile_bytes: The largest tile of the level: where a rate limit cut.
    """

    colour: str
    irreversible: bool
    component_transform: bool
    resolutions: int
    codeblock_width: int
    codeblock_height: int
    layers: int
    tile_bytes: int


def parse_jpeg2000(streams: Sequence[bytes], colour: str, tile_bytes: int) -> Jpeg2000:
    """The parameters that all ``streams`` share.

    Raises:
        CodecError: If one is not a codestream, or two differ.
    """
    found = {_parse(stream, colour, tile_bytes) for stream in streams}
    if len(found) > 1:
        raise CodecError("its tiles were compressed with different JPEG 2000 parameters.")
    return found.pop()


def _parse(stream: bytes, colour: str, tile_bytes: int) -> Jpeg2000:
    if stream[:2] != _SOC.to_bytes(2):
        raise CodecError(f"not a JPEG 2000 codestream: it starts with {stream[:2].hex(' ') or 'nothing'}.")
    at = 2
    while at + 4 <= len(stream):
        marker, length = struct.unpack_from(">HH", stream, at)
        if marker in {_SOT, _EOC}:
            break
        body = stream[at + 4 : at + 2 + length]
        if marker == _COD and len(body) >= 10:
            _, _, layers, mixed, levels, width, height, _, wavelet = struct.unpack_from(">BBHBBBBBB", body)
            return Jpeg2000(
                colour, wavelet == 0, bool(mixed), levels + 1, 4 << (width & 15), 4 << (height & 15), layers, tile_bytes
            )
        at += 2 + length
    raise CodecError("the JPEG 2000 codestream has no coding parameters (COD) before its first tile.")
