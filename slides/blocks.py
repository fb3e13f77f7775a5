"""The block split of one slide: training, calibration and exam tissue that never touch each other.

Blocks of three patches by three lie at a pitch of four, from (0, 0), so that neighbours are a patch apart. Even blocks
(row + column) train; odd ones are for the exam, save every third odd block with tissue in raster order (the 1st, 4th,
7th ...), which calibrates. The slide's edge cuts blocks. The split has no seed: one slide has one split.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError, require
from .progress import Progress
from .slide import Slide
from .tissue import TISSUE_SPREAD, tissue_mask

Role = Literal["train", "calibration", "exam"]
Block = tuple[int, int]  # row, column

BLOCK_PATCHES, PITCH_PATCHES = 3, 4  # a block is three patches wide, the gap is one
CALIBRATION_EVERY = 3
MIN_TISSUE = 0.5  # a block has tissue when one of its disjoint patches is at least half tissue


@dataclass(frozen=True, eq=False)
class BlockSplit:
    """Which tissue of a slide is for what.

    Attributes:
        slide_name: The slide, by name.
        slide_sha256: And by digest.
        width: Of level 0, pixels.
        height: Of level 0, pixels.
        patch_px: The judged patch that sizes blocks and gaps, level-0 pixels.
        roles: (row, column) -> what the block is for; what lies between blocks is for nothing.
    """

    slide_name: str
    slide_sha256: str
    width: int
    height: int
    patch_px: int
    roles: Mapping[Block, Role]
    _tissue: Mapping[Block, NDArray[np.uint8]] = field(repr=False)  # packed masks of the blocks that have any tissue

    @property
    def block_px(self) -> int:
        """Edge of a whole block, level-0 pixels."""
        return BLOCK_PATCHES * self.patch_px

    @property
    def pitch_px(self) -> int:
        """From one block's edge to the next one's, level-0 pixels."""
        return PITCH_PATCHES * self.patch_px

    def positions(self, role: Role, patch_px: int, stride_px: int, min_tissue: float = MIN_TISSUE) -> NDArray[np.int64]:
        """Top left corners (x, y) of patches wholly inside blocks of ``role``: (n, 2), level-0 pixels, block by block.

        Args:
            role: "train", "calibration" or "exam".
            patch_px: Edge of the patch, at most a block's.
            stride_px: From one patch to the next inside a block; ``patch_px`` makes them disjoint.
            min_tissue: Share of tissue that a patch needs, 0 to 1.

        Raises:
            ConfigError: If the role is unknown or a size is out of range.
        """
        require(role in get_args(Role), "role", f"one of {', '.join(get_args(Role))}", role)
        require(0 < patch_px <= self.block_px, "patch_px", f"from 1 to the block's {self.block_px}", patch_px)
        require(stride_px > 0, "stride_px", "at least 1", stride_px)
        require(0 <= min_tissue <= 1, "min_tissue", "from 0 to 1", min_tissue)
        found = [
            self._block_positions(block, patch_px, stride_px, min_tissue)
            for block, its_role in self.roles.items()
            if its_role == role
        ]
        return np.concatenate([np.zeros((0, 2), np.int64), *found])

    def block_of(self, x_level0: int, y_level0: int) -> Block | None:
        """The block that holds a level-0 pixel, or ``None`` in a gap and outside the slide."""
        (column, x), (row, y) = divmod(int(x_level0), self.pitch_px), divmod(int(y_level0), self.pitch_px)
        inside = (row, column) in self.roles and x_level0 < self.width and y_level0 < self.height
        return (row, column) if inside and x < self.block_px and y < self.block_px else None

    def block_names(self, positions: NDArray[np.integer[Any]]) -> list[str]:
        """Names "row-column" of the blocks at each (x, y), as the manifest and clustered bootstraps name blocks.

        Raises:
            ConfigError: If a position lies in no block.
        """
        names = []
        for x, y in positions:
            block = self.block_of(int(x), int(y))
            if block is None:
                raise ConfigError(f"position ({x}, {y}) lies in no block of {self.slide_name}.")
            names.append(f"{block[0]}-{block[1]}")
        return names

    @cached_property
    def digest(self) -> str:
        """The sha256 of the split: equal for equal slides and rules."""
        return hashlib.sha256(json.dumps(self._rule(), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The split as every card stores it."""
        return self._rule() | {"slide": self.slide_name, "sha256": self.digest}

    def _rule(self) -> dict[str, Any]:
        return {
            "slide_sha256": self.slide_sha256,
            "width": self.width,
            "height": self.height,
            "patch_px": self.patch_px,
            "block_px": self.block_px,
            "pitch_px": self.pitch_px,
            "tissue_spread": TISSUE_SPREAD,
            "min_tissue": MIN_TISSUE,
            "roles": {role: [list(b) for b, r in self.roles.items() if r == role] for role in get_args(Role)},
        }

    def _block_positions(self, block: Block, patch_px: int, stride_px: int, min_tissue: float) -> NDArray[np.int64]:
        width, height = _block_size(block, self.width, self.height, self.patch_px)
        if width < patch_px or height < patch_px:
            return np.zeros((0, 2), np.int64)
        packed = self._tissue.get(block)
        mask = np.zeros((height, width), bool) if packed is None else _unpack(packed, height, width)
        y, x, fraction = _window_fractions(mask, patch_px, stride_px)
        keep = fraction >= min_tissue
        corners = np.stack([x + block[1] * self.pitch_px, y + block[0] * self.pitch_px], axis=-1)[keep]
        return np.asarray(corners, np.int64)


def block_split(slide: Slide, patch_px: int = 112, progress: Progress | None = None) -> BlockSplit:
    """The split of a slide; every block is read once, gaps are not.

    Args:
        slide: An open slide.
        patch_px: The judged patch: 112 for the sample slide's scale, 224 for the paper's.
        progress: Called after each row of blocks.

    Raises:
        ConfigError: If the slide is smaller than a patch.
        SlideUnreadable: If a block cannot be decoded.
    """
    width, height = slide.dimensions
    require(0 < patch_px <= min(width, height), "patch_px", f"from 1 to the slide's {min(width, height)} px", patch_px)
    rows, columns = -(-height // (PITCH_PATCHES * patch_px)), -(-width // (PITCH_PATCHES * patch_px))
    tissue: dict[Block, NDArray[np.uint8]] = {}
    has_tissue: set[Block] = set()
    for row in range(rows):
        for column in range(columns):
            mask = _read_mask(slide, (row, column), patch_px)
            if mask.any():
                tissue[row, column] = np.packbits(mask)
            if _has_tissue(mask, patch_px):
                has_tissue.add((row, column))
        if progress is not None:
            progress(row + 1, rows, f"{slide.name}: rows of blocks")
    roles = assign_roles(rows, columns, has_tissue)
    return BlockSplit(slide.name, slide.digest, width, height, patch_px, roles, tissue)


def assign_roles(rows: int, columns: int, has_tissue: set[Block]) -> dict[Block, Role]:
    """(row, column) -> role for a grid of blocks; raster order.

    >>> assign_roles(1, 4, {(0, 1), (0, 3)})
    {(0, 0): 'train', (0, 1): 'calibration', (0, 2): 'train', (0, 3): 'exam'}
    """
    blocks = [(row, column) for row in range(rows) for column in range(columns)]
    odd = [block for block in blocks if sum(block) % 2 and block in has_tissue]
    calibration = set(odd[::CALIBRATION_EVERY])
    return {b: "train" if sum(b) % 2 == 0 else "calibration" if b in calibration else "exam" for b in blocks}


def _block_size(block: Block, width: int, height: int, patch_px: int) -> tuple[int, int]:
    edge, pitch = BLOCK_PATCHES * patch_px, PITCH_PATCHES * patch_px
    return min(edge, width - block[1] * pitch), min(edge, height - block[0] * pitch)


def _read_mask(slide: Slide, block: Block, patch_px: int) -> NDArray[np.bool_]:
    width, height = _block_size(block, *slide.dimensions, patch_px)
    pitch = PITCH_PATCHES * patch_px
    return tissue_mask(slide.read(block[1] * pitch, block[0] * pitch, width, height))


def _has_tissue(mask: NDArray[np.bool_], patch_px: int) -> bool:
    if min(mask.shape) < patch_px:
        return False
    return bool((_window_fractions(mask, patch_px, patch_px)[2] >= MIN_TISSUE).any())


def _window_fractions(
    mask: NDArray[np.bool_], window: int, stride: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """y, x and the share of true pixels of every window on the grid: three arrays of one shape (rows, columns)."""
    sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
    sums[1:, 1:] = mask.cumsum(0).cumsum(1)
    y, x = np.meshgrid(
        np.arange(0, mask.shape[0] - window + 1, stride),
        np.arange(0, mask.shape[1] - window + 1, stride),
        indexing="ij",
    )
    inside = sums[y + window, x + window] - sums[y, x + window] - sums[y + window, x] + sums[y, x]
    return y, x, inside / window**2


def _unpack(packed: NDArray[np.uint8], height: int, width: int) -> NDArray[np.bool_]:
    return np.unpackbits(packed, count=height * width).reshape(height, width).astype(bool)
