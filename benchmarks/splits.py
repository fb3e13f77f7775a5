"""Who trains, who calibrates and who is examined: the split of real tissue, as a study may order it.

A slide is split by blocks in one fixed layout (`histoforensics.slides.block_split`). Folders of images are split by
what their images have in common: patient, slide or file. Without an order half of these groups train, a sixth
calibrates and a third is for the exam; a study gives other shares, or says by name which group has which role.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from histoforensics.slides import ConfigError, PatchError, require

Role = Literal["train", "calibration", "exam"]
By = Literal["block", "patient", "slide", "file"]
Share = float | tuple[str, ...]  # of the groups, or their names

ROLES: tuple[Role, ...] = get_args(Role)
COLUMNS: Mapping[By, str] = {"patient": "patient", "slide": "source_slide", "file": "file"}  # of a manifest
PATTERN: tuple[Role, ...] = ("train", "calibration", "exam", "train", "exam", "train")


@dataclass(frozen=True, kw_only=True)
class SplitRule:
    """How real tissue is split.

    Attributes:
        by: What stays together; None: blocks on a slide, else the coarsest of patient, slide and file that is known.
        table: CSV with the columns file and ``by``, for folders of images that have no manifest.
        train: Share of the groups that trains, or the groups by name. All three are shares, all are names, or none is
            given.
        calibration: The same of those that calibrate.
        exam: The same of those that are examined.
    """

    by: By | None = None
    table: Path | None = None
    train: Share | None = None
    calibration: Share | None = None
    exam: Share | None = None

    def __post_init__(self) -> None:
        require(self.by is None or self.by in get_args(By), "splits.by", f"one of {', '.join(get_args(By))}", self.by)
        given = [getattr(self, role) for role in ROLES]
        kinds = {type(share) is tuple if share is not None else None for share in given}
        wanted = "three shares or three lists of names (train, calibration, exam)"
        require(
            len(kinds) == 1, "splits", wanted, ", ".join(f"{r} {_told(s)}" for r, s in zip(ROLES, given, strict=True))
        )
        if kinds == {False}:
            for role, share in zip(ROLES, given, strict=True):
                require(0 < share < 1, f"splits.{role}", "a share between 0 and 1", share)
            require(abs(sum(given) - 1) < 1e-6, "splits", "three shares that add up to 1", tuple(given))
        if kinds == {True}:
            names = [name for share in given for name in share]
            require(all(given), "splits", "one name or more for each of train, calibration and exam", given)
            require(len(set(names)) == len(names), "splits", "names with one role each", names)
        if self.by == "block":
            require(kinds == {None} and self.table is None, "splits.by block", "without shares, names or table: blocks "
                    "have one fixed layout", "more")  # fmt: skip
        if self.table is not None:
            require(self.by in ("patient", "slide"), "splits.by", "patient or slide where there is a table", self.by)

    def deal(self, groups: Sequence[str]) -> dict[str, Role]:
        """The role of every group.

        Raises:
            PatchError: If there are too few groups, or a name and a group are without each other.
        """
        if self.train is None:
            return split_groups(groups)
        if isinstance(self.train, tuple):
            return self._named(groups)
        _check_count(groups)
        counts = _counts([getattr(self, role) for role in ROLES], len(groups))
        roles = [role for role, count in zip(ROLES, counts, strict=True) for _ in range(count)]
        return dict(zip(_shuffled(groups), roles, strict=True))

    def read_table(self) -> dict[str, str]:
        """File to group, from the table; empty without one.

        Raises:
            ConfigError: If the table cannot be read, or lacks a column.
        """
        if self.table is None:
            return {}
        try:
            with self.table.open(newline="", encoding="utf-8") as lines:
                rows = list(csv.DictReader(lines))
        except (OSError, UnicodeDecodeError) as err:
            raise ConfigError(f"{self.table.name}: not a readable table ({err.__class__.__name__}).") from err
        columns = list(rows[0]) if rows else []
        if not {"file", str(self.by)} <= set(columns):
            raise ConfigError(
                f"{self.table.name}: a table for splits has the columns file and {self.by}, got "
                f"{', '.join(columns) or 'none'}."
            )
        return {row["file"]: row[str(self.by)] for row in rows}

    def _named(self, groups: Sequence[str]) -> dict[str, Role]:
        roles = {name: role for role in ROLES for name in getattr(self, role)}
        kind = self.by or "group"
        for name in (one for one in roles if one not in groups):
            raise PatchError(
                f"splits.{roles[name]} names the {kind} {name!r}, but the tissue has only {_listed(groups)}."
            )
        for name in (one for one in groups if one not in roles):
            raise PatchError(f"the {kind} {name!r} has no role; name it under train, calibration or exam of splits.")
        return roles


def split_groups(groups: Sequence[str]) -> dict[str, Role]:
    """Half of the groups train, a sixth calibrates, a third is for the exam; the order of their hashes decides.

    Raises:
        PatchError: If there are fewer than three groups.

    >>> sorted(split_groups(["a", "b", "c"]).values())
    ['calibration', 'exam', 'train']
    """
    _check_count(groups)
    return {group: PATTERN[i % len(PATTERN)] for i, group in enumerate(_shuffled(groups))}


def _check_count(groups: Sequence[str]) -> None:
    if len(groups) < len(ROLES):
        raise PatchError(
            f"{len(groups)} patients, slides or files of real tissue cannot be split for training, calibration and "
            "exam; at least 3 are wanted."
        )


def _shuffled(groups: Sequence[str]) -> list[str]:
    return sorted(groups, key=lambda name: hashlib.sha256(str(name).encode()).hexdigest())


def _counts(shares: Sequence[float], total: int) -> list[int]:
    """Whole numbers, at least 1 each, that add up to ``total`` and are as near the shares as can be."""
    wanted = np.maximum(np.asarray(shares) * total, 1.0)
    counts = np.floor(wanted).astype(int)
    while counts.sum() > total:
        counts[np.argmax(counts)] -= 1
    while counts.sum() < total:
        counts[np.argmax(wanted - counts)] += 1
    return [int(count) for count in counts]


def _told(share: Share | None) -> str:
    return "not given" if share is None else "as names" if isinstance(share, tuple) else f"{share:g}"


def _listed(groups: Sequence[str], most: int = 12) -> str:
    return ", ".join(groups[:most]) + (f" and {len(groups) - most} more" if len(groups) > most else "")
