"""Find generated tissue: detectors, their calibration and the controls that keep them honest."""

from .augment import Augmentation
from .card import DetectorCard
from .cnn import CnnRecipe
from .detector import FAKE, REAL, Detector, Verdict
from .metrics import AucInterval, auc, cluster_bootstrap_auc
from .placebo import Placebo, label_permutation_auc, placebo_auc
from .registry import CONTROLS, DETECTORS, load_detector
from .training import TrainingSet, train_detector
from .weights import EfficientNetLite0Features

__all__ = [
    "CONTROLS",
    "DETECTORS",
    "FAKE",
    "REAL",
    "AucInterval",
    "Augmentation",
    "CnnRecipe",
    "Detector",
    "DetectorCard",
    "EfficientNetLite0Features",
    "Placebo",
    "TrainingSet",
    "Verdict",
    "auc",
    "cluster_bootstrap_auc",
    "label_permutation_auc",
    "load_detector",
    "placebo_auc",
    "train_detector",
]
