"""One slide of a cohort, from file to folder: the task that executors run.

A job goes from the parent to its workers, so it loads what judges only where it is called: the parent needs no torch.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from histoforensics.slides import Progress, Slide, atomic_folder
from histoforensics.slides.executor import Work
from histoforensics.slides.runcard import peak_memory_mb

from .scan_grid import ScanGrid
from .scanstate import VERDICT, check_claim, finished, remove_remains, slide_id, write_state

if TYPE_CHECKING:
    from .detector import Detector


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
        import torch

        from .registry import load_detector
        from .training import check_device

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
                self._fill(folder, slide_name, slide, judges, progress)
        verdict = json.loads((folder / VERDICT).read_text(encoding="utf-8"))
        return {"verdict": verdict, "kept": is_kept, "peak_memory_mb": peak_memory_mb()}

    def _fill(self, folder: Path, name: str, slide: Slide, judges: Mapping[str, Detector], progress: Progress) -> None:
        """Scan a slide into its folder, which appears whole."""
        from .scan import scan_slide
        from .scan_report import write_scan_report
        from .slideresults import describe, write_outputs

        scan = scan_slide(slide, judges, self.grid, progress=progress)
        _give_back()
        with atomic_folder(folder, overwrite=True) as work:
            verdict = describe(name, slide, scan, judges, self.grid.history)
            write_outputs(work, scan, judges)
            write_scan_report(work, slide, scan, judges, verdict)
            (work / VERDICT).write_text(json.dumps(verdict, indent=2) + "\n", encoding="utf-8")
            write_state(work, self.parameters_sha256, slide.digest)
            check_claim(Path(self.out), self.parameters_sha256)


def _give_back() -> None:
    """Hand freed memory back to the system: glibc keeps some 30 MB of pixels, and tables come next."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:  # musl has none
        trim(0)
