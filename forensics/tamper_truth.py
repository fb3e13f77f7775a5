"""The truth of a tampered slide: which pixels were replaced, as a picture, as outlines, and read back from them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from histoforensics.slides import PatchError

from .outlines import outline
from .tamper_regions import Region

LARGEST_MASK_PX = 8192
COLOUR = (38, 139, 210)


def mask_downsample(width: int, height: int) -> int:
    """The least power of two by which a mask's edges are at most ``LARGEST_MASK_PX``.

    >>> mask_downsample(2220, 2967), mask_downsample(100_000, 50_000)
    (1, 16)
    """
    downsample = 1
    while max(width, height) > LARGEST_MASK_PX * downsample:
        downsample *= 2
    return downsample


def write_mask(path: Path, regions: Iterable[Region], size: tuple[int, int], downsample: int) -> None:
    """A 1-bit PNG, white where the first pixel of a ``downsample`` x ``downsample`` square was replaced."""
    width, height = (-(-extent // downsample) for extent in size)
    picture = np.zeros((height, width), bool)
    for region in regions:
        first_x, first_y = -region.x % downsample, -region.y % downsample
        part = region.mask[first_y::downsample, first_x::downsample]
        top, left = (region.y + first_y) // downsample, (region.x + first_x) // downsample
        picture[top : top + part.shape[0], left : left + part.shape[1]] |= part
    Image.fromarray(picture).save(path, "PNG")


def outline_features(regions: Sequence[Region]) -> dict[str, Any]:
    """The regions as GeoJSON for QuPath: one annotation each, exact to the pixel, level-0 coordinates."""
    features = []
    for number, region in enumerate(regions, start=1):
        rings = [[[x + region.x, y + region.y] for x, y in ring] for ring in outline(region.mask)]
        properties = {
            "objectType": "annotation",
            "name": f"spliced {number}",
            "classification": {"name": "Spliced", "color": list(COLOUR)},
            "measurements": {"area px": region.area_px, "size px": region.size_px},
        }
        geometry = {"type": "Polygon", "coordinates": rings}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    return {"type": "FeatureCollection", "features": features}


def read_outlines(path: Path | str) -> list[Region]:
    """The regions of a file that holds ``outline_features``, exact to the pixel.

    Raises:
        PatchError: If it holds none.
    """
    path = Path(path)
    try:
        features = json.loads(path.read_text("utf-8"))["features"]
        return [_region(one) for one in features]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as err:
        raise PatchError(f"{path.name}: not the outlines that `tamper` wrote ({type(err).__name__}).") from err


def _region(feature: dict[str, Any]) -> Region:
    rings = [np.array(ring, np.int64) for ring in feature["geometry"]["coordinates"]]
    low, high = rings[0].min(0), rings[0].max(0)
    width, height = (high - low).tolist()
    mask = np.zeros((height, width), bool)
    for ring in rings:  # corners lie between pixels: a pixel is inside where its middle is, so holes toggle it
        mask ^= _filled(ring - low, (height, width))
    return Region(int(low[0]), int(low[1]), mask, int(feature["properties"]["measurements"]["size px"]))


def _filled(ring: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels inside a ring of horizontal and vertical edges: each vertical edge toggles all that lies right."""
    toggles = np.zeros((shape[0], shape[1] + 1), np.int64)
    for (x0, y0), (x1, y1) in pairwise(ring):
        if x0 == x1:
            toggles[min(y0, y1) : max(y0, y1), x0] += 1
    return np.asarray(toggles.cumsum(1)[:, :-1] % 2 == 1)
