"""Whole slides in, patch sets out."""

from .atomic import atomic_file, atomic_folder, file_digest, write_atomic
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
from .images import encode_png, pixel_digest, read_image
from .patchset import Label, PatchSet
from .progress import Progress
from .runcard import run_card
from .tissue import tissue_fraction, tissue_mask
from .writer import PatchSetWriter

__all__ = [
    "CheckpointError",
    "CodecError",
    "ConfigError",
    "DetectorError",
    "DownloadError",
    "ExamError",
    "HistoforensicsError",
    "Label",
    "LevelError",
    "MppError",
    "PatchError",
    "PatchSet",
    "PatchSetWriter",
    "Progress",
    "SlideError",
    "SlideNotFound",
    "SlideUnreadable",
    "atomic_file",
    "atomic_folder",
    "encode_png",
    "file_digest",
    "pixel_digest",
    "read_image",
    "require",
    "run_card",
    "tissue_fraction",
    "tissue_mask",
    "write_atomic",
]
