"""Find generated tissue: detectors, their calibration and the controls that keep them honest."""

from .attribution import Attribution, Attributor
from .audit import Audit, audit
from .augment import Augmentation
from .card import DetectorCard
from .cnn import CnnRecipe
from .cohort import Cohort, merge
from .detector import FAKE, REAL, Detector, Verdict
from .effects import effect_sizes
from .estimator import DetectorClassifier
from .export import export_detector
from .heatmaps import grad_cam, heatmap
from .metadata import MetadataControl, metadata_control
from .metrics import AucInterval, auc, cluster_bootstrap_auc
from .placebo import Placebo, label_permutation_auc, placebo_auc
from .recipes import RECIPES, Recipe, train_by_recipe, train_seeds
from .registry import CONTROLS, DETECTORS, load_detector
from .scan import ScanGrid
from .scanner import Scanner, ScanReport
from .standins import enrich, stand_ins
from .training import TrainingSet, train_detector
from .weightmaps import weight_maps

__all__ = [
    "CONTROLS",
    "DETECTORS",
    "FAKE",
    "REAL",
    "RECIPES",
    "Attribution",
    "Attributor",
    "AucInterval",
    "Audit",
    "Augmentation",
    "CnnRecipe",
    "Cohort",
    "Detector",
    "DetectorCard",
    "DetectorClassifier",
    "MetadataControl",
    "Placebo",
    "Recipe",
    "ScanGrid",
    "ScanReport",
    "Scanner",
    "TrainingSet",
    "Verdict",
    "auc",
    "audit",
    "cluster_bootstrap_auc",
    "effect_sizes",
    "enrich",
    "export_detector",
    "grad_cam",
    "heatmap",
    "label_permutation_auc",
    "load_detector",
    "merge",
    "metadata_control",
    "placebo_auc",
    "stand_ins",
    "train_by_recipe",
    "train_detector",
    "train_seeds",
    "weight_maps",
]
