"""Find generated tissue: detectors, their calibration and the controls that keep them honest."""

from .card import DetectorCard
from .detector import FAKE, REAL, Detector, Verdict
from .registry import CONTROLS, DETECTORS, load_detector
from .training import TrainingSet, train_detector

__all__ = [
    "CONTROLS",
    "DETECTORS",
    "FAKE",
    "REAL",
    "Detector",
    "DetectorCard",
    "TrainingSet",
    "Verdict",
    "load_detector",
    "train_detector",
]
