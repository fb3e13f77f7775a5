"""Regions of a mask of cells: which cells hang together, and their outlines as polygons with holes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Point = tuple[int, int]  # column, row: corners of cells
Ring = list[Point]  # closed: the first corner is repeated at the end


@dataclass(frozen=True, eq=False)
class CellRegion:
    """Cells that share edges.

    Attributes:
        rows: Of each cell, (n,).
        columns: Of each cell, (n,).
        rings: The outline first, then one ring a hole; corners (column, row).
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    rings: list[Ring]


def regions(mask: NDArray[np.bool_]) -> Iterator[CellRegion]:
    """The regions of a mask (rows, columns), in raster order of their first cells."""
    if not mask.any():
        return
    labels, _ = ndimage.label(mask)
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        part = labels[box] == index
        top, left = box[0].start, box[1].start
        rows, columns = np.nonzero(part)
        rings = [[(x + left, y + top) for x, y in ring] for ring in outline(part)]
        yield CellRegion(rows + top, columns + left, rings)


def outline(mask: NDArray[np.bool_]) -> list[Ring]:
    """The rings of one region (rows, columns), largest first: it runs clockwise as seen, holes run the other way.

    Where two cells meet only at a corner the ring goes straight on from one to the other, so that no ring ever touches
    itself and a hole touches the outline in a point at most, as polygons demand.
    """
    leaving = _edges(mask)
    rings = []
    while leaving:
        start = next(iter(leaving))
        corner, heading = start, leaving[start][0]
        ring = [corner]
        while True:
            _take(leaving, corner, heading)
            corner = (corner[0] + heading[0], corner[1] + heading[1])
            if corner == start and (corner not in leaving or _left(heading) not in leaving[corner]):
                break
            ways = leaving[corner]
            turn = next(way for way in (_left(heading), heading, _right(heading)) if way in ways)
            if turn != heading:
                ring.append(corner)
            heading = turn
        rings.append([*ring, start])
    return sorted((_without_straight_start(ring) for ring in rings), key=_area, reverse=True)


def _edges(mask: NDArray[np.bool_]) -> dict[Point, list[Point]]:
    """Corner -> headings of the edges that leave it, with the region on the right hand (y points down)."""
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    sides = (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),  # nothing above: from the top left corner to the right
        (padded[1:-1, 2:], (1, 0), (0, 1)),
        (padded[2:, 1:-1], (1, 1), (-1, 0)),
        (padded[1:-1, :-2], (0, 1), (0, -1)),
    )
    leaving: dict[Point, list[Point]] = {}
    for neighbour, (dx, dy), heading in sides:
        for row, column in np.argwhere(inside & ~neighbour).tolist():
            leaving.setdefault((column + dx, row + dy), []).append(heading)
    return leaving


def _take(leaving: dict[Point, list[Point]], corner: Point, heading: Point) -> None:
    leaving[corner].remove(heading)
    if not leaving[corner]:
        del leaving[corner]


def _left(heading: Point) -> Point:
    return heading[1], -heading[0]


def _right(heading: Point) -> Point:
    return -heading[1], heading[0]


def _area(ring: Ring) -> float:
    """Signed area by the shoelace formula: above 0 for rings that run clockwise as seen."""
    x, y = (np.array([point[axis] for point in ring], np.float64) for axis in (0, 1))
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


def _without_straight_start(ring: Ring) -> Ring:
    """The same ring, begun at a corner where it turns."""
    before, start, after = ring[-2], ring[0], ring[1]
    is_straight = (before[0] == start[0] == after[0]) or (before[1] == start[1] == after[1])
    return [*ring[1:-1], ring[1]] if is_straight else ring
