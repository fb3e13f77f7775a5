"""One slide of a cohort, from file to folder: the task that executors run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from histoforensics.slides import Progress, Slide, atomic_folder
from histoforensics.slides.executor import Work
from histoforensics.slides.runcard import peak_memory_mb

from .detector import Detector
from .geojson import cell_features, region_features, write_geojson
from .history import History
from .pictures import heatmap, write_ome_tiff, write_png
from .registry import load_detector
from .scan import ScanGrid, SlideScan, scan_slide
from .scan_report import write_scan_report
from .scanstate import VERDICT, finished, remove_remains, slide_id, write_state
from .scoremap import BACKGROUND, CORRUPT, OK
from .tables import write_clam_h5, write_parquet, write_wsinfer_csv
from .training import check_device
from .verdict import DOES_NOT_SHOW, conclude, slide_verdict

CODEC_GRID_PX = 8


@dataclass(frozen=True)
class SlideJob:
    """Builds a worker's task function: loads the detectors once, then scans slide after slide.

    Attributes:
        detectors: Name in the results and folder of each detector.
        grid: Where patches lie.
        out: The results folder.
        parameters_sha256: Of the run's parameters; part of every slide's state.
        device: Where detectors compute.
        threads: Torch's, in each worker.
    """

    detectors: tuple[tuple[str, str], ...]
    grid: ScanGrid
    out: str
    parameters_sha256: str
    device: str = "cpu"
    threads: int = 1

    def __call__(self) -> Work:
        check_device(self.device)
        torch.set_num_threads(self.threads)
        judges = {label: load_detector(folder).to(self.device) for label, folder in self.detectors}

        def work(path: str, progress: Progress) -> Mapping[str, Any]:
            return self._scan(Path(path), judges, progress)

        return work

    def _scan(self, path: Path, judges: Mapping[str, Detector], progress: Progress) -> Mapping[str, Any]:
        """The slide's verdict, whether it was there already, and the worker's peak memory."""
        out = Path(self.out)
        with Slide.open(path, self.grid.mpp) as slide:
            slide_name = slide_id(slide.name, slide.digest)
            folder = out / slide_name
            is_kept = finished(folder, self.parameters_sha256, slide.digest)
            if not is_kept:
                remove_remains(out, slide_name)
                scan = scan_slide(slide, judges, self.grid, progress=progress)
                with atomic_folder(folder, overwrite=True) as work:
                    verdict = describe(slide_name, slide, scan, judges, self.grid.history)
                    write_outputs(work, scan, judges)
                    write_scan_report(work, slide, scan, judges, verdict)
                    (work / VERDICT).write_text(json.dumps(verdict, indent=2) + "\n", encoding="utf-8")
                    write_state(work, self.parameters_sha256, slide.digest)
        verdict = json.loads((folder / VERDICT).read_text(encoding="utf-8"))
        return {"verdict": verdict, "kept": is_kept, "peak_memory_mb": peak_memory_mb()}


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
