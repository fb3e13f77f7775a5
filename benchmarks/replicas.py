"""Stand-ins as a benchmark's fakes: real tissue of the same split, resampled as a generator's last step would do it.

What is in the pictures is the same for both classes, so that nothing but synthesis can tell them apart: no organ, stain
or scanner. Disjoint patches of a role are dealt once, to the reals and to each kernel; none serves two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from histoforensics.forensics import stand_ins
from histoforensics.slides import PatchError, PatchSetWriter

from .material import COUNTS, EXAM_REALS, belonging, write_cut
from .splits import ROLES, Role
from .tissue import Cut, Tissue

REAL_PART = "real"


def deal_tissue(tissue: Tissue, role: Role, kernels: Sequence[str], seed: int) -> dict[str, Cut]:
    """Disjoint patches of a role by who gets them: "real" at most half of all, each kernel an equal part of the rest.

    Raises:
        PatchError: If there is too little tissue for two patches each.
    """
    rng = np.random.default_rng([seed, 41, ROLES.index(role)])
    cut = tissue.cut(role, disjoint=True, limit=COUNTS[role] * (1 + len(kernels)), rng=rng)
    order = rng.permutation(len(cut))
    n_real = min(COUNTS[role], len(cut) // 2)
    each = min(COUNTS[role], (len(cut) - n_real) // len(kernels))
    if min(n_real, each) < 2:
        raise PatchError(
            f"{tissue.name}: {len(cut)} disjoint patches of the {role} split are too few for real ones and "
            f"{len(kernels)} kernels of stand-ins; give more tissue or fewer kernels."
        )
    ends = np.cumsum([n_real, *[each] * len(kernels)])
    parts = np.split(order, ends)[:-1]
    return {name: _rows(cut, np.sort(part)) for name, part in zip((REAL_PART, *kernels), parts, strict=True)}


@dataclass(frozen=True, eq=False)
class Replicas:
    """The real patches and stand-ins of one run, dealt once.

    Attributes:
        tissue: Where patches come from.
        kernels: Of `forensics.standins.KERNELS`.
        seed: Of the dealing, the filters and their noise.
    """

    tissue: Tissue
    kernels: tuple[str, ...]
    seed: int

    @cached_property
    def dealt(self) -> dict[Role, dict[str, Cut]]:
        """Role to who gets which patches."""
        return {role: deal_tissue(self.tissue, role, self.kernels, self.seed) for role in ROLES}

    def write_real(self, out: Path, *, matched: bool = True) -> None:
        """The real patches of every role into ``out/<role>``, as `material.write_real` does; the exam's twice."""
        for role, parts in self.dealt.items():
            for name in (role, EXAM_REALS) if role == "exam" else (role,):
                write_cut(self.tissue, parts[REAL_PART], out / name, matched)

    def write_fakes(self, kernel: str, out: Path, *, matched: bool = True) -> None:
        """The stand-ins of one kernel into ``out/<role>``, put through the codec at the place where each was cut."""
        for role, parts in self.dealt.items():
            cut = parts[kernel]
            rng = np.random.default_rng([self.seed, 43, ROLES.index(role), *kernel.encode()])
            made = replace(cut, pixels=stand_ins(cut.pixels, [kernel], rng))
            pixels = self.tissue.replay(made) if matched else made.pixels
            with PatchSetWriter(out / role, card={"kind": "stand-in", "kernel": kernel}, overwrite=True) as writer:
                for patch, source, group in zip(pixels, cut.sources, cut.groups, strict=True):
                    told = belonging(cut, str(source), str(group))
                    writer.add(patch, label="fake", generator=kernel, mpp=self.tissue.mpp, level=0, **told)


def _rows(cut: Cut, rows: NDArray[np.integer]) -> Cut:
    return Cut(cut.pixels[rows], cut.x[rows], cut.y[rows], cut.sources[rows], cut.groups[rows], cut.level)
