"""Whole slides in, patch sets out."""

from .atomic import atomic_file, atomic_folder, file_digest, write_atomic
from .blocks import Block, BlockSplit, Role, block_split
from .codec import Codec, JpegGeneration, read_codec
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
from .executor import Limits
from .grids import Grid, Layout, MppGrid, PaperGrid
from .images import encode_png, pixel_digest, read_image
from .patchset import Label, PatchSet
from .progress import Progress
from .replay import SETTLING_ROUNDS, matched_codec, replay, transcode
from .runcard import run_card
from .sample import sample_slide
from .slide import Slide
from .tiling import TileReport, tile
from .tissue import tissue_fraction, tissue_mask
from .writer import PatchSetWriter

__all__ = [
    "SETTLING_ROUNDS",
    "Block",
    "BlockSplit",
    "CheckpointError",
    "Codec",
    "CodecError",
    "ConfigError",
    "DetectorError",
    "DownloadError",
    "ExamError",
    "Grid",
    "HistoforensicsError",
    "JpegGeneration",
    "Label",
    "Layout",
    "LevelError",
    "Limits",
    "MppError",
    "MppGrid",
    "PaperGrid",
    "PatchError",
    "PatchSet",
    "PatchSetWriter",
    "Progress",
    "Role",
    "Slide",
    "SlideError",
    "SlideNotFound",
    "SlideUnreadable",
    "TileReport",
    "atomic_file",
    "atomic_folder",
    "block_split",
    "encode_png",
    "file_digest",
    "matched_codec",
    "pixel_digest",
    "read_codec",
    "read_image",
    "replay",
    "require",
    "run_card",
    "sample_slide",
    "tile",
    "tissue_fraction",
    "tissue_mask",
    "transcode",
    "write_atomic",
]
