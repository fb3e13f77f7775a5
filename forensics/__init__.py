"""Find generated tissue: detectors, their calibration and the controls that keep them honest.

A name is looked up in its module when it is first asked for: who scans, or only reads cards, is spared torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .attribution import Attribution, Attributor
    from .auditing import Audit, audit
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
    from .scan_grid import ScanGrid
    from .scanner import Scanner, ScanReport
    from .standins import enrich, stand_ins
    from .training import TrainingSet, train_detector
    from .weightmaps import weight_maps

_NAMES = {
    "attribution": "Attribution Attributor",
    "auditing": "Audit audit",
    "augment": "Augmentation",
    "card": "DetectorCard",
    "cnn": "CnnRecipe",
    "cohort": "Cohort merge",
    "detector": "FAKE REAL Detector Verdict",
    "effects": "effect_sizes",
    "estimator": "DetectorClassifier",
    "export": "export_detector",
    "heatmaps": "grad_cam heatmap",
    "metadata": "MetadataControl metadata_control",
    "metrics": "AucInterval auc cluster_bootstrap_auc",
    "placebo": "Placebo label_permutation_auc placebo_auc",
    "recipes": "RECIPES Recipe train_by_recipe train_seeds",
    "registry": "CONTROLS DETECTORS load_detector",
    "scan_grid": "ScanGrid",
    "scanner": "Scanner ScanReport",
    "standins": "enrich stand_ins",
    "training": "TrainingSet train_detector",
    "weightmaps": "weight_maps",
}  # module -> names of the room; none is a module's name as well, or importing that would hide it
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}

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


if not TYPE_CHECKING:  # checkers read the imports above and know every name

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f".{_HOMES[name]}", __name__), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
