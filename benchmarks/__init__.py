"""Measure people and machines on the same exam."""

from .confusion import ConfusionTable, Counts
from .distribution import ExamDistribution, distributions, exam_distribution
from .distribution_figure import distribution_figure
from .exam import Exam, Marks, exam_size
from .examiner import build_exam
from .gallery import write_figures
from .generalization import Cell, HeldOut, auc_matrix, in_domain, leave_one_out, same_generator
from .margins import Margin, margins
from .perturbations import PERTURBATIONS, Perturbation
from .published import PUBLISHED_GROUPS, PublishedGroup
from .readers import PUBLISHED, Reader, ReaderKind
from .report import render_report, write_report
from .results import GeneratorFacts, assemble, exam_scores, read_results, write_results
from .robustness import robustness
from .robustness_figure import robustness_figure
from .study import Study
from .study_build import build_study

__all__ = [
    "PERTURBATIONS",
    "PUBLISHED",
    "PUBLISHED_GROUPS",
    "Cell",
    "ConfusionTable",
    "Counts",
    "Exam",
    "ExamDistribution",
    "GeneratorFacts",
    "HeldOut",
    "Margin",
    "Marks",
    "Perturbation",
    "PublishedGroup",
    "Reader",
    "ReaderKind",
    "Study",
    "assemble",
    "auc_matrix",
    "build_exam",
    "build_study",
    "distribution_figure",
    "distributions",
    "exam_distribution",
    "exam_scores",
    "exam_size",
    "in_domain",
    "leave_one_out",
    "margins",
    "read_results",
    "render_report",
    "robustness",
    "robustness_figure",
    "same_generator",
    "write_figures",
    "write_report",
    "write_results",
]
