"""What a scan leaves of one slide: tables, maps, pictures, and the verdict as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from histoforensics.slides import Slide

from .detector import Detector
from .geojson import cell_features, region_features, write_geojson
from .history import History
from .pictures import heatmap, write_ome_tiff, write_png
from .scan import SlideScan
from .scoremap import BACKGROUND, CORRUPT, OK
from .tables import write_clam_h5, write_parquet, write_wsinfer_csv
from .verdict import DOES_NOT_SHOW, conclude, slide_verdict

CODEC_GRID_PX = 8


def write_outputs(folder: Path, scan: SlideScan, judges: Mapping[str, Detector]) -> None:
    """Write a slide's tables, maps and pictures."""
    scores = scan.scores
    write_parquet(folder / "scores.parquet", scores)
    write_wsinfer_csv(folder / "scores.csv", scores)
    write_clam_h5(folder / "coords.h5", scores)
    write_ome_tiff(folder / "scores.ome.tif", scores)
    write_geojson(folder / "tiles.geojson", cell_features(scores))
    write_geojson(folder / "regions.geojson", region_features(scores, _thresholds(judges)))
    write_png(folder / "thumbnail.png", scan.overview)
    for label in judges:
        name = "heatmap.png" if len(judges) == 1 else f"heatmap-{label}.png"
        write_png(folder / name, heatmap(scores, label, scan.overview, scan.overview_scale))


def describe(
    name: str, slide: Slide, scan: SlideScan, judges: Mapping[str, Detector], history: History = "card"
) -> dict[str, Any]:
    """The slide's verdict as JSON: what was judged, what each detector says, and what that does not show."""
    scores = scan.scores
    verdicts = {label: slide_verdict(scores, label, judge, detectors=len(judges)) for label, judge in judges.items()}
    lattice, (bottom, right) = scores.lattice, scores.extent
    is_as_is = history == "as-is" or bool(scan.not_replayed)
    counts = {"ok": scores.count(OK), "background": scores.count(BACKGROUND), "corrupt": scores.count(CORRUPT)}
    return {
        "slide": name,
        "sha256": slide.digest,
        "call": conclude(verdicts).value,
        "width": lattice.width,
        "height": lattice.height,
        "mpp": scores.mpp,
        "properties": slide.properties,
        "patch_px": lattice.patch_px,
        "stride_px": lattice.stride_px,
        "patches": counts,
        "unreadable": [list(rect) for rect in scan.broken],
        "skipped_blocks": scan.skipped,
        "overview_scale": scan.overview_scale,
        "detectors": {
            label: {
                "name": judge.name,
                "weights_sha256": judge.card.weights_sha256,
                "fake_above": judge.fake_above.item(),
                "replay_rounds": 0 if is_as_is else judge.card.replay_rounds,
                **verdicts[label].to_json(),
            }
            for label, judge in judges.items()
        },
        "warnings": _warnings(scan, (max(0, lattice.width - right), max(0, lattice.height - bottom)), counts),
        "does_not_show": list(DOES_NOT_SHOW),
    }


def _warnings(scan: SlideScan, edge_px: tuple[int, int], counts: Mapping[str, int]) -> list[str]:
    found = []
    if scan.broken:
        found.append(
            f"{len(scan.broken)} places cannot be decoded; the {counts['corrupt']} patches there have no score."
        )
    if scan.broken_overview:
        found.append(
            f"{scan.broken_overview} pieces of the coarsest level cannot be decoded; they are grey in pictures."
        )
    if scan.not_replayed:
        found.append(
            "The detectors learned from patches with a settled codec history, but this slide's cannot be replayed "
            f"({scan.not_replayed}) Patches were judged as they are, and no false-alarm rate is known for that."
        )
    if max(edge_px):
        found.append(f"{edge_px[0]} px at the right and {edge_px[1]} px at the bottom edge lie in no whole patch.")
    if scan.scores.lattice.stride_px % CODEC_GRID_PX:
        found.append(
            f"The stride of {scan.scores.lattice.stride_px} px is off the codec's {CODEC_GRID_PX}-px grid: patches "
            "differ in how the codec's blocks lie in them."
        )
    return found


def _thresholds(judges: Mapping[str, Detector]) -> dict[str, float]:
    return {label: judge.fake_above.item() for label, judge in judges.items()}
