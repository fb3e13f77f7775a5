"""The study: an exam frozen together with all that decides how readers meet it.

::

    exam/
    ├── items/               what a reader may see
    ├── exam.json            the items and their size
    ├── answer_key.parquet   the truth: never served
    ├── study.json           repeats, practice, scale, what readers are told, what trivial cues tell: never served
    ├── practice/            practice items, with feedback and outside the count
    ├── practice_key.parquet
    ├── consent.txt          what a reader agrees to; editable, its digest is stored with every reader
    ├── reasons.yaml         the reasons to tick; editable
    └── paper_form.html      for those who mark on paper; marks_template.csv goes with it

A *showing* is one appearance of an item before a reader; a repeated item has two, each with a name of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from histoforensics.slides import ExamError

from .exam import ITEMS, ORDER, Exam

STUDY, PRACTICE, PRACTICE_KEY = "study.json", "practice", "practice_key.parquet"
CONSENT, REASONS = "consent.txt", "reasons.yaml"
SHORTEST_GAP = 10  # showings between an item and its repeat, where the exam is long enough


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """What study.json holds."""

    title: str
    preset: str
    told: str  # what readers are told of the mix; empty: nothing
    mpp: float | None  # micrometres a pixel of the items, for the scale bar
    repeats: Mapping[str, str]  # second name of an item: its first name
    seed: int
    file_controls: Mapping[str, float]
    pixel_controls: Mapping[str, float]

    @classmethod
    def read(cls, path: Path) -> StudySettings:
        """Read study.json.

        Raises:
            ExamError: If it is missing or not what `build_study` wrote.
        """
        if not path.is_file():
            raise ExamError(
                f"{path.parent.name}: no {path.name} in the folder; make one with `histoforensics exam build`."
            )
        try:
            return cls(**json.loads(path.read_text("utf-8")))
        except (ValueError, TypeError) as err:
            raise ExamError(f"{path.parent.name}/{path.name}: not readable ({err}); build the exam again.") from err

    def to_json(self) -> dict[str, Any]:
        """The settings as study.json holds them."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Study:
    """An exam with its settings, its texts and the bytes that are served, all read once."""

    exam: Exam
    settings: StudySettings
    practice: pd.DataFrame
    consent: str
    reasons: Mapping[str, str]
    images: Mapping[str, bytes]  # by the name of the showing: nothing in an address ever becomes a path
    _order: Mapping[str, Any]  # exam.json

    @classmethod
    def open(cls, root: Path | str) -> Study:
        """Open a study and compare every item with its digest.

        Raises:
            ExamError: If a part is missing, broken or changed.
        """
        root = Path(root)
        settings = StudySettings.read(root / STUDY)
        exam = Exam.open(root)
        practice = pd.read_parquet(root / PRACTICE_KEY)
        items = {str(row.id): (root / ITEMS / str(row.file)).read_bytes() for row in exam.key.itertuples()}
        repeats = {again: items[first] for again, first in settings.repeats.items()}
        trials = {str(row.id): (root / PRACTICE / str(row.file)).read_bytes() for row in practice.itertuples()}
        return cls(
            exam, settings, practice, read_consent(root / CONSENT), read_reasons(root / REASONS),
            {**items, **repeats, **trials}, json.loads((root / ORDER).read_text("utf-8")),
        )  # fmt: skip

    @property
    def root(self) -> Path:
        """The folder."""
        return self.exam.root

    @property
    def showings(self) -> int:
        """How many patches a reader judges, repeats included and practice not."""
        return len(self.exam) + len(self.settings.repeats)

    @property
    def patch_px(self) -> int:
        """Edge length of the items."""
        return int(self._order["patch_px"])

    @property
    def overlapping_pairs(self) -> int:
        """How many pairs of real patches share tissue, because there was too little."""
        return int(self._order["overlapping_pairs"])

    @property
    def patches_per_block(self) -> int:
        """The most real patches that one block of one slide gives; 1 where the blocks are not known."""
        placed = self.exam.key[(self.exam.key["truth"] == "real") & self.exam.key["block"].notna()]
        return int(placed.groupby(["source_slide", "block"], dropna=False).size().max()) if len(placed) else 1

    @property
    def consent_version(self) -> str:
        """Twelve digits of the consent text's sha256: what a reader agreed to."""
        return hashlib.sha256(self.consent.encode()).hexdigest()[:12]

    @property
    def digest(self) -> str:
        """Sixteen digits that name this exam: another draw, order of names or key is another exam."""
        told = [list(self.exam.key["id"]), list(self.exam.key["sha256"]), sorted(self.settings.repeats.items())]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]

    def item(self, showing: str) -> str:
        """The item that a showing shows."""
        return self.settings.repeats.get(showing, showing)

    def order(self, seed: int) -> list[str]:
        """The showings as the reader with this seed meets them; same seed, same order, for ever."""
        return list(_known_order(*self._shown, seed))

    def practice_order(self) -> list[str]:
        """The practice items, the same for every reader."""
        return list(self._practised)

    @cached_property
    def _shown(self) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
        """Items and repeats; every request of a reader asks for their order."""
        return tuple(str(name) for name in self.exam.key["id"]), tuple(self.settings.repeats.items())

    @cached_property
    def _practised(self) -> tuple[str, ...]:
        return tuple(str(name) for name in self.practice["id"])


def reader_order(items: list[str], repeats: Mapping[str, str], seed: int) -> list[str]:
    """A random order of items and repeats, in which an item and its repeat stand well apart.

    Each pair is put on two free places drawn from all that are far enough apart, which of the two comes first is drawn
    as well, and everything else fills what is left. "Far" is a fifth of the showings, 10 at least where so many fit.
    """
    rng = np.random.default_rng(seed)
    total = len(items) + len(repeats)
    gap = min(max(SHORTEST_GAP, total // 5), max(total // 4, 1))
    places: list[str | None] = [None] * total
    for again, first in sorted(repeats.items()):
        free = np.array([i for i, name in enumerate(places) if name is None])
        apart = free[None, :] - free[:, None]
        far = np.argwhere(apart >= min(gap, int(apart.max())))
        one, two = far[rng.integers(len(far))]
        pair = (first, again) if rng.random() < 0.5 else (again, first)
        places[free[one]], places[free[two]] = pair
    paired = {*repeats.values()}
    rest = iter(rng.permutation(np.array([name for name in items if name not in paired], dtype=object)))
    return [str(next(rest)) if name is None else name for name in places]


@lru_cache(maxsize=1024)  # every request of a reader asks for it
def _known_order(items: tuple[str, ...], repeats: tuple[tuple[str, str], ...], seed: int) -> tuple[str, ...]:
    return tuple(reader_order(list(items), dict(repeats), seed))


def read_reasons(path: Path) -> dict[str, str]:
    """The reasons by id, in the file's order.

    Raises:
        ExamError: If the file is missing or is not a YAML mapping of short ids to texts.
    """
    try:
        found = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, yaml.YAMLError) as err:
        raise ExamError(f"{path.name}: not a readable YAML file ({str(err).splitlines()[0]}).") from err
    if not isinstance(found, dict) or not found or not all(isinstance(text, str) for text in found.values()):
        raise ExamError(f'{path.name}: must be lines of "id: text", at least one.')
    ids = [str(name) for name in found]
    wrong = [name for name in ids if not name.replace("-", "").replace("_", "").isalnum() or len(name) > 40]
    if wrong:
        raise ExamError(f"{path.name}: the id {wrong[0]!r} must be letters, digits and hyphens, at most 40.")
    return dict(zip(ids, found.values(), strict=True))


def read_consent(path: Path) -> str:
    """The consent text, paragraphs between empty lines.

    Raises:
        ExamError: If the file is missing, empty or not UTF-8.
    """
    try:
        text = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as err:
        raise ExamError(f"{path.name}: not a readable text ({err}).") from err
    if not text:
        raise ExamError(f"{path.name}: the consent text is empty.")
    return text
