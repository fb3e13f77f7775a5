"""Augmentations: the eight orientations of a real patch, and differentiable shifts and holes before the discriminator.

References: Zhao et al. 2020 (DiffAugment), arXiv:2006.10738. Their colour policy is left out: it fights the stain.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, assert_never

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from histoforensics.slides import require

Orientations = Literal["none", "mirror", "dihedral"]

SHIFT_SHARE = 1 / 8  # the largest shift, as a share of the side (DiffAugment's own value)
HOLE_SHARE = 1 / 2  # the side of the hole, as a share of the side (DiffAugment's own value)
POLICIES = ("translation", "cutout")


def orient(pixels: NDArray[np.uint8], code: int) -> NDArray[np.uint8]:
    """One of the eight orientations of a square patch (h, h, 3): bits 0 and 1 turn by 90 degrees, bit 2 then mirrors.

    >>> orient(np.uint8([[[1], [2]], [[3], [4]]]), 4)[..., 0].tolist()
    [[2, 1], [4, 3]]
    """
    require(0 <= code < 8, "code", "from 0 to 7", code)
    turned = np.rot90(pixels, code & 3)
    return np.ascontiguousarray(turned[:, ::-1] if code & 4 else turned)


def orientation_code(orientations: Orientations, draw: float) -> int:
    """The orientation that a uniform ``draw`` in [0, 1) picks from the allowed ones.

    >>> [orientation_code("mirror", u) for u in (0.2, 0.7)], orientation_code("dihedral", 0.999)
    ([0, 4], 7)
    """
    match orientations:
        case "none":
            return 0
        case "mirror":
            return 4 * int(draw >= 0.5)
        case "dihedral":
            return int(draw * 8)
        case _:
            assert_never(orientations)


def check_policy(policy: Iterable[str]) -> None:
    """Refuse a name that is not in `POLICIES`."""
    for name in policy:
        require(name in POLICIES, "diff_augment", f"made of {', '.join(POLICIES)}", name)


def diff_augment(images: torch.Tensor, policy: Sequence[str], rng: torch.Generator, fill: float = 0.0) -> torch.Tensor:
    """Images (n, c, h, w) after the named policies, each sample by its own draw; gradients reach the remaining pixels.

    Args:
        images: Any floating dtype and range.
        policy: Names out of `POLICIES`, applied in order.
        rng: A CPU generator; it is advanced.
        fill: What stands where an image was shifted away or cut out: the middle of the range.
    """
    for name in policy:
        images = _translate(images, rng, fill) if name == "translation" else _cut(images, rng, fill)
    return images


def _translate(images: torch.Tensor, rng: torch.Generator, fill: float) -> torch.Tensor:
    n, _, height, width = images.shape
    reach_y, reach_x = round(height * SHIFT_SHARE), round(width * SHIFT_SHARE)
    padded = F.pad(images, (reach_x, reach_x, reach_y, reach_y), value=fill)
    tops = torch.randint(0, 2 * reach_y + 1, (n,), generator=rng).tolist()
    lefts = torch.randint(0, 2 * reach_x + 1, (n,), generator=rng).tolist()
    shifted = [
        one[:, top : top + height, left : left + width] for one, top, left in zip(padded, tops, lefts, strict=True)
    ]
    return torch.stack(shifted)


def _cut(images: torch.Tensor, rng: torch.Generator, fill: float) -> torch.Tensor:
    n, _, height, width = images.shape
    tall, wide = round(height * HOLE_SHARE), round(width * HOLE_SHARE)
    # The hole's centre is anywhere in the image, so that holes may hang over the border and every pixel is hit alike.
    tops = torch.randint(0, height, (n, 1, 1, 1), generator=rng) - tall // 2
    lefts = torch.randint(0, width, (n, 1, 1, 1), generator=rng) - wide // 2
    rows, columns = torch.arange(height).view(1, 1, -1, 1), torch.arange(width).view(1, 1, 1, -1)
    hole = (rows >= tops) & (rows < tops + tall) & (columns >= lefts) & (columns < lefts + wide)
    return images.masked_fill(hole.to(images.device), fill)
