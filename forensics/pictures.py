"""Score maps as pictures: a heatmap over the overview (PNG), and the map itself with its scale (OME-TIFF)."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import tifffile
from numpy.typing import NDArray

from histoforensics.slides import encode_png

from .detector import Pixels
from .scoremap import CORRUPT, ScoreMap

OPACITY = 0.55
COLOUR_MAP = "inferno"
CORRUPT_COLOUR = (0, 160, 200)  # not in the colour map
OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def heatmap(scores: ScoreMap, label: str, overview: Pixels, scale: float) -> Pixels:
    """The overview with P(fake) over it, dark is 0 and bright is 1; unreadable cells blue, unjudged ones bare.

    Args:
        scores: The score map.
        label: Which detector's.
        overview: RGB (h, w, 3), uint8.
        scale: Level-0 pixels that one of its pixels spans.
    """
    values, broken = scores.cells(label), scores.cell_status() == CORRUPT
    judged, colours = ~np.isnan(values), _colours()
    picture = overview.copy()
    rows, columns = (_cells_of(extent, scale, scores.lattice.stride_px) for extent in overview.shape[:2])
    in_rows, in_columns = rows[rows < values.shape[0]], columns[columns < values.shape[1]]
    if not len(in_rows) or not len(in_columns):
        return overview
    for row, cells in enumerate(in_rows):
        line = picture[row, : len(in_columns)]
        is_judged = judged[cells, in_columns]
        steps = (values[cells, in_columns[is_judged]] * len(colours)).astype(int).clip(0, len(colours) - 1)
        mixed = (1 - OPACITY) * line[is_judged].astype(np.float32) + OPACITY * colours[steps]
        line[is_judged] = mixed.round()
        line[broken[cells, in_columns]] = CORRUPT_COLOUR
    return picture


def write_png(path: Path, pixels: Pixels) -> None:
    """Write RGB (h, w, 3), uint8, as PNG, without any metadata."""
    path.write_bytes(encode_png(pixels))


def write_ome_tiff(path: Path, scores: ScoreMap) -> None:
    """Write the mean scores of the cells, one float32 channel a detector, NaN where nothing was judged.

    A pixel is a stride cell, so PhysicalSize is stride times mpp, um. The description is ours: writers that make one up
    put an identifier of the machine in it.
    """
    labels = list(scores.scores)
    grids = np.stack([scores.cells(label) for label in labels])  # (c, y, x)
    if not grids.size:
        grids = np.full((len(labels), 1, 1), np.nan, np.float32)
    tifffile.imwrite(
        path,
        grids,
        photometric="minisblack",
        compression="zlib",
        metadata=None,
        software=False,
        description=_ome_xml(labels, grids.shape[1:], scores.lattice.stride_px * scores.mpp),
    )


def _ome_xml(labels: list[str], shape: tuple[int, ...], size_um: float) -> str:
    channels = "".join(
        f'<Channel ID="Channel:0:{index}" Name={quoteattr(f"P(fake) {label}")} SamplesPerPixel="1"/>'
        for index, label in enumerate(labels)
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{OME}" '
        f'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:schemaLocation="{OME} {OME}/ome.xsd"><Image ID="Image:0" Name="P(fake)"><Pixels ID="Pixels:0" '
        f'DimensionOrder="XYCZT" Type="float" SizeX="{shape[1]}" SizeY="{shape[0]}" SizeC="{len(labels)}" SizeZ="1" '
        f'SizeT="1" PhysicalSizeX="{size_um:.10g}" PhysicalSizeY="{size_um:.10g}">{channels}'
        f'<TiffData IFD="0" PlaneCount="{len(labels)}"/></Pixels></Image></OME>'
    )


def _cells_of(extent: int, scale: float, stride_px: int) -> NDArray[np.intp]:
    """The cell under the middle of each of ``extent`` overview pixels."""
    return np.asarray((np.arange(extent) + 0.5) * scale / stride_px, np.intp)


def _colours() -> NDArray[np.float32]:
    """The colours of the map, RGB (256, 3): a large slide has many more cells than the overview has pixels."""
    from matplotlib import colormaps  # a second to import, and only here

    colours = colormaps[COLOUR_MAP]
    return np.asarray(colours(np.arange(colours.N))[:, :3] * 255, np.float32)
