"""Find generated tissue: detectors, their calibration and the controls that keep them honest."""

from .audit import Audit, audit
from .augment import Augmentation
from .card import DetectorCard
from .cnn import CnnRecipe
from .cohort import Cohort, merge
from .detector import FAKE, REAL, Detector, Verdict
from .metrics import AucInterval, auc, cluster_bootstrap_auc
from .placebo import Placebo, label_permutation_auc, placebo_auc
from .registry import CONTROLS, DETECTORS, load_detector
from .scan import ScanGrid
from .scanner import Scanner, ScanReport
from .training import TrainingSet, train_detector

__all__ = [
    "CONTROLS",
    "DETECTORS",
    "FAKE",
    "REAL",
    "AucInterval",
    "Audit",
    "Augmentation",
    "CnnRecipe",
    "Cohort",
    "Detector",
    "DetectorCard",
    "Placebo",
    "ScanGrid",
    "ScanReport",
    "Scanner",
    "TrainingSet",
    "Verdict",
    "auc",
    "audit",
    "cluster_bootstrap_auc",
    "label_permutation_auc",
    "load_detector",
    "merge",
    "placebo_auc",
    "train_detector",
]
