"""Every figure of a run, written where the report looks for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from histoforensics.forensics.effects_figure import effects_figure
from histoforensics.slides import write_atomic

from .distribution_figure import distribution_figure
from .exam import Exam
from .figures import accuracy_figure, contact_sheet, generalization_figure, spectra_figure
from .reliability_figure import reliability_figure
from .robustness_figure import robustness_figure


def write_figures(
    out: Path | str,
    results: Mapping[str, Any],
    exam: Exam,
    real: NDArray[np.uint8],
    fakes: Mapping[str, NDArray[np.uint8]],
) -> None:
    """Draw every figure of a run into the folder ``out``: SVGs for the report, and the exam's contact sheet.

    Args:
        out: The folder figures/ beside results.json.
        results: The content of results.json.
        exam: The exam that was marked.
        real: Held-out real patches, uint8 (n, h, h, 3).
        fakes: Held-out fakes by generator, codec-matched, of the same size.
    """
    out = Path(out)
    for name, drawn in measured_figures(results).items():
        write_atomic(out / name, drawn)
    write_atomic(out / "spectra.svg", spectra_figure(real, fakes))
    write_atomic(out / "contact_sheet.png", contact_sheet(results["exam"]["items"], exam.pixels()))


def measured_figures(results: Mapping[str, Any]) -> dict[str, bytes]:
    """File name to SVG of every figure that the results alone can make; what a run did not measure is left out."""
    drawn = {"accuracy.svg": accuracy_figure(results["readers"])}
    if results["same_generator"]:
        drawn["generalization.svg"] = generalization_figure(results["generalization"], results["same_generator"])
    if results["exam_distribution"]:
        drawn["distribution.svg"] = distribution_figure(results["exam_distribution"])
    if results["calibration"]:
        drawn["reliability.svg"] = reliability_figure(results["calibration"])
    if results["robustness"]["rows"]:
        table = pd.DataFrame(results["robustness"]["rows"])
        drawn["robustness_auc.svg"] = robustness_figure(table)
        drawn["robustness_fpr.svg"] = robustness_figure(table, "fpr")
    if results["reasons"]["rows"]:
        drawn["reasons.svg"] = effects_figure(pd.DataFrame(results["reasons"]["rows"]))
    return drawn
