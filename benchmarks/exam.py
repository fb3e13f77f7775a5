"""The exam: the same patches for people and machines, with the answer key apart from what is served.

::

    exam/
    ├── items/               what a reader may see: opaque names, one encoding, equal byte length, no metadata
    ├── exam.json            the order of the items and their size
    └── answer_key.parquet   truth, generator and match of each item: never served
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from histoforensics.slides import ExamError, require
from histoforensics.slides.images import read_image

from .readers import Judge, Reader, ReaderKind

ITEMS, ORDER, KEY = "items", "exam.json", "answer_key.parquet"
KEY_COLUMNS = (
    "order",  # 1, 2, ... as the reader meets them
    "id",  # opaque: drawn at random, not made from the patch
    "file",
    "sha256",  # of the file as served
    "truth",
    "generator",
    "matched_id",  # the item of the other class that it stands against
    "distance",  # between the two, in units of the spread of real patches
    "source_id",
    "source_slide",
    "block",
)


@dataclass(frozen=True, eq=False)
class Marks:
    """One reader's answers in the exam's order: the counts, a verdict each, and for machines a score each."""

    reader: Reader
    verdicts: tuple[str, ...]
    scores: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Exam:
    """A frozen exam on disk; ``key`` has one row an item, in the order of the exam."""

    root: Path
    key: pd.DataFrame

    @classmethod
    def open(cls, root: Path | str) -> Exam:
        """Open an exam and compare every item with its digest.

        Raises:
            ExamError: If the key is missing or broken, or an item is missing or has changed.
        """
        root = Path(root)
        if not (root / KEY).is_file():
            raise ExamError(f"{root.name}: no {KEY} in the folder; build an exam there first.")
        try:
            key = pd.read_parquet(root / KEY)
        except (OSError, ValueError) as err:
            raise ExamError(f"{root.name}/{KEY}: not a readable Parquet file ({err}).") from err
        missing = [name for name in KEY_COLUMNS if name not in key.columns]
        if missing:
            raise ExamError(f"{root.name}/{KEY}: lacks the columns {', '.join(missing)}; build the exam again.")
        exam = cls(root, key.sort_values("order", ignore_index=True))
        exam._verify()
        return exam

    def __len__(self) -> int:
        return len(self.key)

    @property
    def generators(self) -> tuple[str, ...]:
        """The generators of the fakes, by name."""
        return tuple(sorted(self.key["generator"].dropna().unique()))

    def pixels(self) -> NDArray[np.uint8]:
        """The items in the exam's order, RGB (n, h, w, 3), uint8."""
        return np.stack([read_image(self.root / ITEMS / str(file)) for file in self.key["file"]])

    def mark(self, judge: Judge, name: str, kind: ReaderKind = ReaderKind.DETECTOR) -> Marks:
        """What a detector answers, by thresholds that it brought with it."""
        scores = np.asarray(judge.score(self.pixels()), dtype=np.float32)
        return self.grade([str(verdict) for verdict in judge.verdicts(scores)], name, kind, scores)

    def grade(
        self, verdicts: list[str], name: str, kind: ReaderKind, scores: NDArray[np.float32] | None = None
    ) -> Marks:
        """Count answers that are given in the exam's order.

        Raises:
            ExamError: If there are too few or too many, or one is no verdict.
        """
        generators = [None if pd.isna(generator) else str(generator) for generator in self.key["generator"]]
        if len(verdicts) != len(self):
            raise ExamError(f"{name}: the exam has {len(self)} patches, but there are {len(verdicts)} answers.")
        reader = Reader.of_marks(name, kind, list(self.key["truth"]), generators, verdicts, source="this exam")
        return Marks(reader, tuple(verdicts), scores)

    def facts(self) -> dict[str, object]:
        """What results.json tells of the exam."""
        fakes = self.key[self.key["truth"] == "fake"]
        served = json.loads((self.root / ORDER).read_text("utf-8"))
        return {
            "patches": len(self),
            "real": len(self) - len(fakes),
            "fake": {name: int((fakes["generator"] == name).sum()) for name in self.generators},
            "patch_px": int(served["patch_px"]),
            "slides": int(self.key["source_slide"].nunique()),
            "blocks": int(self.key["block"].nunique()),
            "matched_on": str(served["matched_on"]),
            "median_match_distance": float(fakes["distance"].median()),
        }

    def items(self, marks: Mapping[str, Marks]) -> list[dict[str, object]]:
        """One entry an item, with every reader's verdict: what the report's contact sheet shows."""
        return [
            {
                **{name: None if pd.isna(row[name]) else row[name] for name in KEY_COLUMNS if name != "sha256"},
                "verdicts": {name: mark.verdicts[i] for name, mark in marks.items()},
            }
            for i, row in enumerate(self.key.to_dict("records"))
        ]

    def _verify(self) -> None:
        for file, digest in zip(self.key["file"], self.key["sha256"], strict=True):
            path = self.root / ITEMS / str(file)
            if not path.is_file():
                raise ExamError(f"{self.root.name}: the item {file} is in the answer key but not in {ITEMS}.")
            if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                raise ExamError(f"{self.root.name}: the item {file} is not the one that was frozen; build it again.")


def exam_size(n_generators: int, n_real_available: int, target: int = 30) -> tuple[int, int]:
    """(real, fake per generator) of a balanced exam: at most ``target`` of each class, as many as the reals allow.

    >>> exam_size(3, 35)
    (30, 10)
    >>> exam_size(1, 22)
    (22, 22)
    """
    require(n_generators >= 1, "the number of generators", "at least 1", n_generators)
    each = min(target, n_real_available) // n_generators
    if each < 1:
        raise ExamError(f"{n_real_available} real patches are too few for an exam with {n_generators} generators.")
    return each * n_generators, each
