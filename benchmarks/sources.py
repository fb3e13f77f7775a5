"""Opens what the user named: slides or images as tissue, folders or checkpoints as fakes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from histoforensics.generators import LoadedGenerator, load_generator
from histoforensics.slides import PatchError, PatchSet, Progress, Slide, require, sample_slide
from histoforensics.slides.codec import image_codec
from histoforensics.slides.images import IMAGE_SUFFIXES

from .config import BenchmarkConfig
from .splits import SplitRule
from .tissue import FolderTissue, SlideTissue, Tissue, judged_size

SLIDE_PATCH_PX = 112  # 56 um at the sample slide's 0.499 um/px: near the field of the paper's patches


@dataclass(frozen=True)
class StandIn:
    """Fakes that are real tissue of the same split, resampled by one kernel (`forensics.stand_ins`)."""

    kernel: str


Fakes = PatchSet | LoadedGenerator | StandIn
Given = PatchSet | LoadedGenerator


def open_fakes(config: BenchmarkConfig, progress: Progress | None = None) -> dict[str, Given]:
    """Each named set of fakes: a generator's checkpoint, a patch set, or a folder of images."""
    return {
        name: load_generator(path, config.device) if _is_checkpoint(path) else _open_images(path, "fake", progress)
        for name, path in config.fake.items()
    }


def open_tissue(config: BenchmarkConfig, fakes: Mapping[str, Given], progress: Progress | None = None) -> Tissue:
    """The real tissue, split, with the judged size that it and the fakes allow.

    Raises:
        SlideError, PatchError: If a path cannot be opened, or slides and folders are mixed.
    """
    paths = config.real or (sample_slide(),)
    for path in paths:
        if not path.exists():
            raise PatchError(f"{path.name}: no such slide, folder or image.")
    folders = [path for path in paths if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES - {".tif", ".tiff"}]
    sizes = [_edge_px(one) for one in fakes.values()]
    if not folders:
        ok = config.splits == SplitRule(by=config.splits.by) and config.splits.by in (None, "block")
        require(ok, "splits", "by block, without shares or names, where the tissue comes from slides", config.splits.by)
        patch_px = config.patch_px or (judged_size(sizes) if sizes else SLIDE_PATCH_PX)
        return SlideTissue([Slide.open(path, config.mpp) for path in paths], patch_px, progress)
    if len(folders) < len(paths):
        raise PatchError("real tissue comes from slides or from folders of images, not from both in one run.")
    sets = [_open_images(path, "real", progress) for path in paths]
    sizes += [int(min(patches.table["width"].min(), patches.table["height"].min())) for patches in sets]
    codecs = [image_codec(patches.root / str(file)) for patches in sets for file in patches.table["file"]]
    require(config.splits.by != "block", "splits.by", "patient, slide or file for folders of images", "block")
    return FolderTissue(sets, config.patch_px or judged_size(sizes), codecs, config.splits, config.mpp)


def _open_images(path: Path, label: str, progress: Progress | None) -> PatchSet:
    if not path.exists():
        raise PatchError(f"{path.name}: no such folder of {label} patches.")
    return PatchSet.open(path, label="fake" if label == "fake" else "real", progress=progress)


def _is_checkpoint(path: Path) -> bool:
    return path.suffix == ".safetensors" or (path / "generator.safetensors").is_file()


def _edge_px(fakes: Given) -> int:
    if isinstance(fakes, LoadedGenerator):
        return fakes.config.resolution
    return int(min(fakes.table["width"].min(), fakes.table["height"].min()))
