"""Several patch sets as one, without a copy: generators side by side, or the roles of a benchmark."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from histoforensics.slides import PatchError, PatchSet


def joined(sets: Sequence[PatchSet]) -> PatchSet:
    """One set with the rows of all, in order; files are told from the nearest folder above all of them.

    Raises:
        PatchError: If there is no set.
    """
    if not sets:
        raise PatchError("no patch sets to join.")
    if len(sets) == 1:
        return sets[0]
    roots = [patches.root.resolve() for patches in sets]
    base = Path(os.path.commonpath(roots))
    tables = []
    for root, patches in zip(roots, sets, strict=True):
        below = root.relative_to(base)
        files = pd.array([(below / file).as_posix() for file in patches.table["file"].astype(str)], dtype="string")
        tables.append(patches.table.assign(file=files))
    card = {"made_by": "several patch sets", "sets": [root.relative_to(base).as_posix() for root in roots]}
    return PatchSet(base, pd.concat(tables, ignore_index=True), card)
