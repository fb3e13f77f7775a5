"""Scan a tampered slide and say how well it was found: scan/ and localisation.json beside the slide."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from histoforensics.slides import Progress, Slide, write_atomic

from .detector import Detector
from .localisation import localise
from .scan import scan_slide
from .scan_grid import ScanGrid
from .slideresults import write_outputs
from .tamper import TamperReport

SCAN, LOCALISATION = "scan", "localisation.json"


def scan_tampered(
    report: TamperReport, judges: Mapping[str, Detector], grid: ScanGrid, *, progress: Progress | None = None
) -> dict[str, Any]:
    """Detector -> how well its score map finds what was replaced, as localisation.json holds it.

    Args:
        report: What ``tamper`` made.
        judges: Name -> calibrated detector.
        grid: Where patches lie.
        progress: Told after each block.

    Raises:
        MppError, DetectorError: As ``scan_slide``.
    """
    folder = report.slide.parent
    with Slide.open(report.slide, grid.mpp) as slide:
        scan = scan_slide(slide, judges, grid, progress=progress)
    (folder / SCAN).mkdir(exist_ok=True)
    write_outputs(folder / SCAN, scan, judges)
    found = {
        label: localise(scan.scores, label, report.regions, judge.fake_above.item()).to_json()
        for label, judge in judges.items()
    }
    write_atomic(Path(folder / LOCALISATION), json.dumps(found, indent=2) + "\n")
    return found
