"""Scores of image files: a probability, a verdict and, where there is one, a reason to doubt it, as a table."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from histoforensics.slides import ConfigError, PatchError, PatchSet, read_image, require, write_atomic
from histoforensics.slides.progress import Progress

from .detector import Detector, Pixels

GRID_PX = 16  # crops start on it, so that a codec's blocks lie alike in all of them
COLUMNS = ("file", "detector", "score", "verdict", "reason")
CHUNK = 32  # images in memory at a time


class _Image(NamedTuple):
    name: str
    place: Path
    mpp: float | None  # um/px, where a manifest tells it


def grid_crops(image: Pixels, patch_px: int, name: str = "image") -> Pixels:
    """Every whole, disjoint square of ``patch_px`` from the top left on the 16-px grid: (k, patch_px, patch_px, 3).

    Args:
        image: uint8 (h, w, 3).
        patch_px: Edge of a crop; crops are the next multiple of 16 px apart.
        name: Of the image, for the error.

    Raises:
        PatchError: If the image is smaller than one crop.
    """
    height, width = image.shape[:2]
    if min(height, width) < patch_px:
        raise PatchError(
            f"{name}: {width} x {height} px is smaller than the {patch_px} x {patch_px} px that are judged; "
            "enlarging would leave traces of its own, so give a larger image or a detector for smaller ones."
        )
    stride = -(-patch_px // GRID_PX) * GRID_PX
    tops, lefts = range(0, height - patch_px + 1, stride), range(0, width - patch_px + 1, stride)
    return np.stack([image[y : y + patch_px, x : x + patch_px] for y in tops for x in lefts])


def score_images(
    paths: Sequence[Path | str], detectors: Sequence[Detector] | Detector, *, progress: Progress | None = None
) -> pd.DataFrame:
    """Columns file, detector, score, verdict, reason: a row an image and detector, images in order, detectors within.

    An image larger than the judged size gets the mean P(fake) of its :func:`grid_crops`. Where the detector doubts at
    least half of them, the verdict is unsure and the reason says why; elsewhere the reason is missing.

    Args:
        paths: Image files, folders of images or patch sets.
        detectors: Calibrated detectors; two of one name are told apart by a number.
        progress: Told after each chunk of images.

    Raises:
        PatchError: If an image is missing, broken or smaller than the judged size.
        DetectorError: If a detector has no thresholds.
    """
    judges = [detectors] if isinstance(detectors, Detector) else list(detectors)
    require(len(judges) > 0, "detectors", "at least one", 0)
    files = [named for path in paths for named in _files(Path(path))]
    if not files:
        raise PatchError("no images to score.")
    parts = []
    for start in range(0, len(files), CHUNK):
        chunk = files[start : start + CHUNK]
        parts.append(_score_chunk(chunk, judges))
        if progress is not None:
            progress(start + len(chunk), len(files), "images")
    return pd.concat(parts, ignore_index=True)


def write_scores(scores: pd.DataFrame, path: Path | str) -> Path:
    """Write a table of scores whole or not at all: CSV or Parquet, by the file's ending.

    Raises:
        ConfigError: If the ending is neither.
    """
    path = check_ending(path)
    table = scores.loc[:, list(COLUMNS)]
    if path.suffix == ".csv":
        return write_atomic(path, table.to_csv(index=False, lineterminator="\n"))
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return write_atomic(path, buffer.getvalue())


def check_ending(path: Path | str) -> Path:
    """The path, if scores can be written to it.

    Raises:
        ConfigError: If it ends in neither .csv nor .parquet.
    """
    path = Path(path)
    if path.suffix not in (".csv", ".parquet"):
        raise ConfigError(f"{path.name}: scores are written to a file that ends in .csv or .parquet.")
    return path


def _files(path: Path) -> Iterator[_Image]:
    """Each image; a name never holds more of the path than the folder that was given."""
    patches = PatchSet.open(path)
    for file, mpp in zip(patches.table["file"], patches.table["mpp"], strict=True):
        name = str(file) if path.is_file() else f"{path.resolve().name}/{file}"
        yield _Image(name, patches.root / str(file), None if pd.isna(mpp) else float(mpp))


def _score_chunk(files: Sequence[_Image], judges: Sequence[Detector]) -> pd.DataFrame:
    images = [read_image(file.place, file.name) for file in files]
    names = [file.name for file in files]
    columns = []
    for label, judge in zip(_labels(judges), judges, strict=True):
        crops = [grid_crops(image, judge.patch_px, name) for image, name in zip(images, names, strict=True)]
        scores = _means(judge.score(np.concatenate(crops)), crops)
        reasons = [_reason(judge, part, file.mpp) for part, file in zip(crops, files, strict=True)]
        columns.append(
            pd.DataFrame({
                "file": names, "detector": label, "score": scores, "verdict": judge.verdicts(scores, doubtful=reasons),
                "reason": pd.array(reasons, dtype="string"),
            })
        )  # fmt: skip
    whole = pd.concat(columns, keys=range(len(columns)))
    return whole.sort_index(level=1, kind="stable", sort_remaining=False).reset_index(drop=True)


def _means(scores: npt.NDArray[np.float32], crops: Sequence[Pixels]) -> npt.NDArray[np.float32]:
    ends = np.cumsum([len(part) for part in crops])[:-1]
    return np.array([part.mean() for part in np.split(scores, ends)], dtype=np.float32)


def _reason(judge: Detector, crops: Pixels, mpp: float | None) -> str | None:
    """The first reason to doubt an image, if the detector doubts at least half of its crops."""
    found = [reason for reason in judge.reasons_to_doubt(crops, mpp) if reason is not None]
    return found[0] if found and 2 * len(found) >= len(crops) else None


def _labels(judges: Sequence[Detector]) -> list[str]:
    names = [judge.name for judge in judges]
    return [f"{name} {names[: i + 1].count(name)}" if names.count(name) > 1 else name for i, name in enumerate(names)]
