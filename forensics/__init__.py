"""Find generated tissue: detectors, their calibration and the controls that keep them honest."""

from .detector import FAKE, REAL, Detector, Verdict
from .registry import CONTROLS, DETECTORS, load_detector

__all__ = ["CONTROLS", "DETECTORS", "FAKE", "REAL", "Detector", "Verdict", "load_detector"]
