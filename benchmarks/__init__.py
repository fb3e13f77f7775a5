"""Measure people and machines on the same exam."""

from .confusion import ConfusionTable, Counts
from .exam import Exam, Marks, exam_size
from .examiner import build_exam
from .readers import PUBLISHED, Reader, ReaderKind

__all__ = ["PUBLISHED", "ConfusionTable", "Counts", "Exam", "Marks", "Reader", "ReaderKind", "build_exam", "exam_size"]
