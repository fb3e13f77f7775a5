"""Every detector and control there is, by name. Explicit: nothing is found by walking packages."""

from __future__ import annotations

from pathlib import Path

from histoforensics.slides import DetectorError

from .card import CARD
from .cascade import CascadeDetector
from .controls import BlockinessControl, ColourControl, SlopeControl
from .cooccurrence import CooccurrenceDetector
from .dct import DCTDetector
from .detector import Detector
from .encoder import EncoderDetector
from .fusion import FusionDetector
from .morphology_lr import MorphologyDetector
from .npr import NprDetector
from .radial import RadialDetector
from .resnet import ResnetDetector
from .stock import STOCK, stock_folder
from .store import read_detector
from .wht import WHTDetector
from .xception import XceptionDetector

DETECTORS: dict[str, type[Detector]] = {
    RadialDetector.name: RadialDetector,
    DCTDetector.name: DCTDetector,
    WHTDetector.name: WHTDetector,
    NprDetector.name: NprDetector,
    ResnetDetector.name: ResnetDetector,
    XceptionDetector.name: XceptionDetector,
    EncoderDetector.name: EncoderDetector,
    CooccurrenceDetector.name: CooccurrenceDetector,
    FusionDetector.name: FusionDetector,
    CascadeDetector.name: CascadeDetector,
    MorphologyDetector.name: MorphologyDetector,
}
CONTROLS: dict[str, type[Detector]] = {
    ColourControl.name: ColourControl,
    BlockinessControl.name: BlockinessControl,
    SlopeControl.name: SlopeControl,
}


def detector_class(name: str) -> type[Detector]:
    """The class of a detector or control.

    Raises:
        DetectorError: If there is none of that name; the sentence lists what there is.
    """
    known = DETECTORS | CONTROLS
    if name not in known:
        raise DetectorError(
            f"unknown detector {name!r}; detectors are {', '.join(DETECTORS)}; controls are {', '.join(CONTROLS)}."
        )
    return known[name]


def load_detector(name_or_folder: str | Path) -> Detector:
    """The trained detector in a folder that :meth:`Detector.save` wrote, or a shipped one by its name, ready to score.

    An existing folder goes before a name of `stock.STOCK`.

    Raises:
        DetectorError: If there is no such folder or name, or it holds no sound detector.
    """
    folder = Path(name_or_folder)
    if not folder.is_dir() and str(name_or_folder) in STOCK:
        folder = stock_folder(str(name_or_folder))
    if not folder.is_dir():
        if str(name_or_folder) in DETECTORS | CONTROLS:
            raise DetectorError(
                f"{name_or_folder} is not trained yet; train it with `histoforensics detectors train {name_or_folder}` "
                "and load the folder that this writes."
            )
        raise DetectorError(
            f"{folder.name}: no such detector folder, and none of the shipped {', '.join(STOCK)}; "
            f"`detectors train NAME` writes one, for {', '.join(DETECTORS)}."
        )
    return read_detector(folder, DETECTORS | CONTROLS)


def find_detectors(folder: Path) -> list[Path]:
    """The folders directly under ``folder`` that hold a detector, and ``folder`` itself if it does; sorted by name."""
    candidates = [folder, *sorted(p for p in folder.iterdir() if p.is_dir())] if folder.is_dir() else []
    return [p for p in candidates if (p / CARD).is_file()]
