"""Measure people and machines on the same exam."""

from .confusion import ConfusionTable, Counts
from .exam import Exam, Marks, exam_size
from .examiner import build_exam
from .figures import write_figures
from .generalization import Cell, HeldOut, auc_matrix, in_domain, leave_one_out, same_generator
from .readers import PUBLISHED, Reader, ReaderKind
from .report import render_report, write_report
from .results import GeneratorFacts, assemble, exam_scores, read_results, write_results
from .study import Study
from .study_build import build_study

__all__ = [
    "PUBLISHED",
    "Cell",
    "ConfusionTable",
    "Counts",
    "Exam",
    "GeneratorFacts",
    "HeldOut",
    "Marks",
    "Reader",
    "ReaderKind",
    "Study",
    "assemble",
    "auc_matrix",
    "build_exam",
    "build_study",
    "exam_scores",
    "exam_size",
    "in_domain",
    "leave_one_out",
    "read_results",
    "render_report",
    "same_generator",
    "write_figures",
    "write_report",
    "write_results",
]
