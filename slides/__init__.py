"""Whole slides in, patch sets out."""

from .errors import (
    CheckpointError,
    CodecError,
    ConfigError,
    DetectorError,
    DownloadError,
    ExamError,
    HistoforensicsError,
    LevelError,
    MppError,
    PatchError,
    SlideError,
    SlideNotFound,
    SlideUnreadable,
    require,
)

__all__ = [
    "CheckpointError",
    "CodecError",
    "ConfigError",
    "DetectorError",
    "DownloadError",
    "ExamError",
    "HistoforensicsError",
    "LevelError",
    "MppError",
    "PatchError",
    "SlideError",
    "SlideNotFound",
    "SlideUnreadable",
    "require",
]
