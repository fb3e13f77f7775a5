"""A scan's report: one self-contained HTML page a slide, made to be read from disk, by a screen reader and on paper.

A script of ours moves two sliders; the page asks nobody for anything, and its policy forbids any other script. It
holds no time and no place, so that the same scan gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from histoforensics.slides import Slide
from histoforensics.slides.runcard import package_version, public

from .detector import Detector, Pixels
from .pictures import COLOUR_MAP, CORRUPT_COLOUR, OPACITY
from .scan import SlideScan
from .scan_page import chance, percent, render
from .scan_places import Place, suspicious_places
from .scoremap import CORRUPT, ScoreMap
from .verdict import ALPHA, Scope, SlideCall

REPORT = "report.html"
QUALITY = 90  # of its JPEG pictures, 4:4:4; what is judged is the slide, never these
MAP_SQUARES = 1024  # of a map's longer side; more cells are brought together, the highest counts
UNREAD_SHOWN = 20
UNJUDGED, UNREADABLE, LOWEST = 0, 1, 2  # bytes of a map; from LOWEST on, scores from 0 to 1
LEVELS = 255 - LOWEST
FAINTEST = 70  # opacity of score 0 in a map, of 255, before the slider's

FILES: Mapping[str, str] = {
    "regions.geojson": "suspicious regions as annotations; drag it onto the open slide in QuPath",
    "tiles.geojson": "every judged square with its scores, for QuPath",
    "scores.parquet": "every patch: level-0 corner, status, one score a detector",
    "scores.csv": "the judged patches, as wsinfer writes them",
    "coords.h5": "their corners, as CLAM reads them",
    "scores.ome.tif": "the score map with its scale",
    "thumbnail.png": "the overview",
    "verdict.json": "all that this page says, for machines",
}
CLAIMS: Mapping[SlideCall, str] = {
    SlideCall.SUSPICIOUS: "Suspicious",
    SlideCall.NOTHING_FOUND: "Nothing found",
    SlideCall.NOT_JUDGED: "Not judged",
}


def write_scan_report(
    folder: Path, slide: Slide, scan: SlideScan, judges: Mapping[str, Detector], verdict: Mapping[str, Any]
) -> Path:
    """Write report.html into a slide's folder, beside the files that it links to.

    Args:
        folder: The slide's results.
        slide: The open slide; only pictures of suspicious places are read from it.
        scan: What was found.
        judges: Name -> detector.
        verdict: The content of verdict.json.
    """
    places = suspicious_places(slide, scan.scores, {label: judge.fake_above.item() for label, judge in judges.items()})
    path = folder / REPORT
    path.write_text(render_scan_report(scan, judges, verdict, places), encoding="utf-8")
    return path


def render_scan_report(
    scan: SlideScan, judges: Mapping[str, Detector], verdict: Mapping[str, Any], places: Sequence[Place]
) -> str:
    """The page, HTML.

    Args:
        scan: What was found.
        judges: Name -> detector.
        verdict: The content of verdict.json.
        places: The gallery.
    """
    script = _script()
    maps = [_layer(scan, label, judge) for label, judge in judges.items()]
    colours = _colours()
    return render(
        "scan_report.html.j2",
        version=package_version(),
        verdict=verdict,
        claim=CLAIMS[SlideCall(verdict["call"])],
        headline=headline(verdict),
        said={label: sentences(label, said) for label, said in verdict["detectors"].items()},
        alpha=ALPHA,
        overview=_jpeg(scan.overview),
        overview_px=(scan.overview.shape[1], scan.overview.shape[0]),
        opacity=round(100 * OPACITY),
        layers=maps,
        maps={
            "colours": colours.tobytes().hex(),
            "maps": [{key: one[key] for key in ("width", "height", "fakeAbove", "cells")} for one in maps],
        },
        scale=[f"rgb({r} {g} {b})" for r, g, b, _ in colours[LOWEST :: LEVELS // 8].tolist()],
        unreadable_colour=f"rgb({CORRUPT_COLOUR[0]} {CORRUPT_COLOUR[1]} {CORRUPT_COLOUR[2]})",
        places=[_shown(place, scan) for place in places],
        unread_shown=UNREAD_SHOWN,
        cards={label: card_facts(judge) for label, judge in judges.items()},
        limits={label: judge.card.limits for label, judge in judges.items()},
        files=_files(list(judges)),
        script=Markup(script),  # noqa: S704 - a file of this package
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def headline(verdict: Mapping[str, Any]) -> str:
    """The slide's verdict in one sentence, never more than the calibration allows to say."""
    call, detectors = SlideCall(verdict["call"]), verdict["detectors"].values()
    if call is SlideCall.NOT_JUDGED:
        return "No patch of tissue could be judged on this slide."
    if call is SlideCall.SUSPICIOUS:
        return "More of this tissue looks generated than false alarms explain."
    if all(said["needed"] is None for said in detectors):
        return "Nothing can be said: too few patches, or too small a calibration, for any alarm on this slide."
    return "Nothing that false alarms would not explain."


def sentences(label: str, said: Mapping[str, Any]) -> list[str]:
    """One detector's verdict with its false-alarm rate, in words.

    Args:
        label: The detector's name.
        said: Its part of verdict.json.
    """
    if said["p"] is None:
        return [f"{label} found no whole patch of tissue to judge."]
    patches, rate = said["patches"], said["false_alarm_rate"]
    first = (
        f"{label} called {said['called_fake']:,} of {patches:,} disjoint patches fake. On real tissue like that of its "
        f"calibration ({_groups(said['calibration_groups'])}) it is expected to call {percent(rate)} fake, here about "
        f"{rate * patches:,.0f}; with 95 % confidence at most {percent(said['false_alarm_rate_upper95'])}."
    )
    lines = [first]
    if said["needed"] is None:
        lines.append(
            "No count could have made this slide suspicious: with so few patches and calibration groups, even all of "
            "them could be false alarms."
        )
    else:
        lines.append(
            f"On such tissue {said['called_fake']:,} or more would come up with a chance of {chance(said['p'])}; it "
            f"takes {chance(said['alpha'])} or less, here from {said['needed']:,} patches, to be called suspicious."
        )
    if said["scope"] != Scope.SAME.value:
        lines += said["warnings"]
    return lines


def card_facts(judge: Detector) -> dict[str, str]:
    """The essentials of a detector's card: what it learned from, and what may be held against it."""
    card = judge.card
    learned = {name: value for name, value in public(card.trained_on).items() if not name.endswith("sha256")}
    return {
        "Detector": f"{card.name} ({card.kind}), {card.patch_px} px patches",
        "Trained on": "; ".join(f"{name.replace('_', ' ')}: {_told(value)}" for name, value in learned.items())
        or "not told",
        "Resolution": "not told" if card.mpp is None else f"{card.mpp:g} um/px",
        "Codec history": public(card.codec_policy),
        "Calibration": public(card.promise) or "not told",
        "Fake above": f"{judge.fake_above.item():.3f}",
        "Licence": public(card.licence),
        "Weights": f"sha256 {card.weights_sha256[:16]}",
    }


def map_squares(scores: ScoreMap, label: str) -> tuple[NDArray[np.uint8], int]:
    """The map as bytes, uint8 (rows, columns), and how many cells a side went into each.

    0 is not judged, 1 unreadable, 2 to 255 a score from 0 to 1. Where cells are brought together the highest counts:
    a small place must not fade in a large slide.
    """
    values = scores.cells(label)
    marks = np.where(scores.cell_status() == CORRUPT, UNREADABLE, UNJUDGED)
    cells = np.where(np.isnan(values), marks, LOWEST + np.round(np.nan_to_num(values) * LEVELS)).astype(np.uint8)
    if not cells.size:
        return np.zeros((1, 1), np.uint8), 1
    step = -(-max(cells.shape) // MAP_SQUARES)
    rows, columns = (-(-extent // step) for extent in cells.shape)
    padded = np.pad(cells, ((0, rows * step - cells.shape[0]), (0, columns * step - cells.shape[1])))
    return padded.reshape(rows, step, columns, step).max((1, 3)), step


@cache
def _script() -> str:
    return (Path(__file__).parent / "scan_report.js").read_text(encoding="utf-8")


def _layer(scan: SlideScan, label: str, judge: Detector) -> dict[str, Any]:
    """A map as the page holds it: a picture for readers without the script, and its bytes for the script."""
    squares, step = map_squares(scan.scores, label)
    side_px = step * scan.scores.lattice.stride_px
    height, width = (extent * scan.overview_scale for extent in scan.overview.shape[:2])
    return {
        "label": label,
        "width": squares.shape[1],
        "height": squares.shape[0],
        "fakeAbove": judge.fake_above.item(),
        "cells": base64.b64encode(zlib.compress(squares.tobytes(), 9)).decode(),
        "picture": _map_png(squares),
        "side_px": side_px,
        "across": 100 * squares.shape[1] * side_px / width,
        "down": 100 * squares.shape[0] * side_px / height,
    }


def _map_png(squares: NDArray[np.uint8]) -> str:
    image = Image.fromarray(squares, "L")
    image.putpalette(_colours()[:, :3].tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=_colours()[:, 3].tobytes(), optimize=True)
    return _data_uri(buffer.getvalue(), "png")


@cache
def _colours() -> NDArray[np.uint8]:
    """RGBA of each byte of a map, uint8 (256, 4): low scores let more of the tissue through."""
    from matplotlib import colormaps  # a second to import, and only here

    colours = np.zeros((256, 4), np.uint8)
    colours[UNREADABLE] = (*CORRUPT_COLOUR, 255)
    share = np.linspace(0, 1, LEVELS + 1)
    colours[LOWEST:] = (colormaps[COLOUR_MAP](share) * 255).round()
    colours[LOWEST:, 3] = (FAINTEST + (255 - FAINTEST) * share).round()
    return colours


def _shown(place: Place, scan: SlideScan) -> dict[str, Any]:
    """A place as the page shows it; its frame on the overview is in percent."""
    height, width = (extent * scan.overview_scale for extent in scan.overview.shape[:2])
    x, y, across, down = place.box
    frame = (100 * x / width, 100 * y / height, 100 * across / width, 100 * down / height)
    return {"place": place, "picture": _jpeg(place.picture), "frame": frame}


def _files(labels: Sequence[str]) -> list[tuple[str, str]]:
    heatmaps = ["heatmap.png"] if len(labels) == 1 else [f"heatmap-{label}.png" for label in labels]
    return [*FILES.items(), *((name, "the map over the overview") for name in heatmaps)]


def _jpeg(pixels: Pixels) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY, subsampling=0)  # optimised, noise overruns a buffer
    return _data_uri(buffer.getvalue(), "jpeg")


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_told(item)}" for name, item in value.items())
    return ", ".join(map(_told, value)) if isinstance(value, list) else str(value)


def _groups(count: int) -> str:
    return "1 independent group" if count == 1 else f"{count:,} independent groups"
