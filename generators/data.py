"""Training data: square crops at random positions of big pictures, fixed by seed and image number alone.

A draw is a pure function of (seed, number of the image in the run), from a counter-based generator (Philox). A run that
resumes at image n therefore sees exactly the crops that the undisturbed run would have seen, and nothing about the
sampler has to be stored.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from histoforensics.slides import (
    BlockSplit,
    PatchError,
    PatchSet,
    Role,
    Slide,
    block_split,
    pixel_digest,
    read_image,
    require,
    tissue_fraction,
)

from .augment import Orientations, orient, orientation_code

Order = Literal["auto", "random", "epochs", "file"]

IMAGE_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})
SAMPLE_JUDGED_PX, PAPER_JUDGED_PX = 112, 224  # the judged patches that size the blocks of a slide's split
SMALL_PX = 128  # crops up to this side belong to the smaller of the two
WINDOW_PX = 1024  # a whole slide is read in windows of this side
CACHE_BYTES = 1 << 30  # decoded pictures kept in memory
TISSUE_TRIES = 16  # crops looked at until one has enough tissue; past that the one with the most is taken
_POSITION, _ORIENTATION, _EPOCH = 0, 1, 2  # streams of random numbers


@dataclass(frozen=True)
class Picture:
    """A rectangle of pixels that crops are cut from; ``load`` decodes it to uint8 (height, width, 3)."""

    name: str
    width: int
    height: int
    load: Callable[[], NDArray[np.uint8]]


class CropSource:
    """Square crops of ``patch_px`` from pictures of any size.

    Args:
        pictures: What to cut from; each at least ``patch_px`` on both sides.
        patch_px: Side of a crop, pixels.
        digest: Identifies the pixels (sha256 hex); a resumed run must see the same one.
        min_tissue: Share of tissue that a crop should have, 0 takes any crop.
        order: "random" draws positions with replacement, each position of each picture equally likely; "epochs" takes
            every picture once an epoch in a new order, "file" in the given order; "auto" is "epochs" where every
            picture is one patch and "random" otherwise.
        mpp: Micrometres per pixel where known.
        origin: What the pictures are, in a few words, without a path.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        patch_px: int,
        *,
        digest: str,
        min_tissue: float = 0.0,
        order: Order = "auto",
        mpp: float | None = None,
        origin: str = "",
    ) -> None:
        require(patch_px > 0, "patch_px", "above 0", patch_px)
        require(0.0 <= min_tissue <= 1.0, "min_tissue", "from 0 to 1", min_tissue)
        if not pictures:
            raise PatchError(f"{origin or 'the training data'} holds no picture to cut patches from.")
        for picture in pictures:
            if min(picture.width, picture.height) < patch_px:
                raise PatchError(
                    f"{picture.name} is {picture.width} x {picture.height} px, but the network needs crops of "
                    f"{patch_px} px; remove it or choose a smaller resolution."
                )
        single = all(picture.width == picture.height == patch_px for picture in pictures)
        self.pictures = tuple(pictures)
        self.patch_px = patch_px
        self.digest = digest
        self.min_tissue = min_tissue
        self.order: Order = ("epochs" if single else "random") if order == "auto" else order
        self.mpp = mpp
        self.origin = origin
        places = [(p.width - patch_px + 1) * (p.height - patch_px + 1) for p in pictures]
        self._cumulative = np.cumsum(places) / np.sum(places)
        self._cache: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._cached_bytes = 0
        self._permutation: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.pictures)

    def draw(self, seed: int, start: int, count: int, orientations: Orientations = "none") -> NDArray[np.uint8]:
        """Crops ``start`` to ``start + count`` of the endless series that ``seed`` fixes, uint8 (count, p, p, 3)."""
        crops = []
        for index in range(start, start + count):
            code = orientation_code(orientations, float(_rng(seed, index, _ORIENTATION).random()))
            crops.append(orient(self._crop(seed, index), code))
        return np.stack(crops)

    def to_json(self) -> dict[str, Any]:
        """What a run records of its data."""
        return {
            "origin": self.origin,
            "pictures": len(self.pictures),
            "patch_px": self.patch_px,
            "min_tissue": self.min_tissue,
            "order": self.order,
            "mpp": self.mpp,
            "digest": self.digest,
        }

    def _crop(self, seed: int, index: int) -> NDArray[np.uint8]:
        rng = _rng(seed, index, _POSITION)
        if self.order != "random":
            return self._cut(self._in_turn(seed, index), rng)
        best, most = None, -1.0
        for _ in range(TISSUE_TRIES):
            crop = self._cut(int(np.searchsorted(self._cumulative, rng.random(), side="right")), rng)
            if self.min_tissue == 0:
                return crop
            tissue = float(tissue_fraction(crop))
            if tissue >= self.min_tissue:
                return crop
            if tissue > most:
                best, most = crop, tissue
        assert best is not None
        return best

    def _in_turn(self, seed: int, index: int) -> int:
        epoch, place = divmod(index, len(self.pictures))
        if self.order == "file":
            return place
        if self._permutation[0] != epoch:
            self._permutation = (epoch, _rng(seed, epoch, _EPOCH).permutation(len(self.pictures)))
        return int(self._permutation[1][place])

    def _cut(self, number: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        picture, p = self.pictures[number], self.patch_px
        x, y = int(rng.integers(picture.width - p + 1)), int(rng.integers(picture.height - p + 1))
        return self._pixels(number)[y : y + p, x : x + p]

    def _pixels(self, number: int) -> NDArray[np.uint8]:
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        pixels = self.pictures[number].load()
        self._cache[number] = pixels
        self._cached_bytes += pixels.nbytes
        while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
            self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        return pixels


def open_source(
    paths: Iterable[Path | str],
    patch_px: int,
    *,
    role: Role | Literal["all"] = "train",
    min_tissue: float = 0.5,
    order: Order = "auto",
    mpp: float | None = None,
) -> CropSource:
    """Crops of ``patch_px`` from slides, folders of images, PatchSets and StyleGAN zips, together.

    Of a slide only the training blocks of its block split are used, unless ``role`` says otherwise: the tissue that a
    generator has learnt must not be the tissue that an exam shows as real. ``min_tissue`` counts for slides alone: who
    cut patches or took photographs has already chosen.

    Raises:
        PatchError: Nothing to cut from, or a picture that is too small.
        SlideError: A slide that cannot be read.
    """
    files = [Path(path) for path in paths]
    require(bool(files), "data", "at least one slide, folder, PatchSet or zip", "none")
    parts = [_open_one(file, patch_px, role, min_tissue, mpp) for file in files]
    scales = {part.mpp for part in parts}
    return CropSource(
        [picture for part in parts for picture in part.pictures],
        patch_px,
        digest=parts[0].digest
        if len(parts) == 1
        else hashlib.sha256("".join(p.digest for p in parts).encode()).hexdigest(),
        min_tissue=min_tissue if any(part.is_slide for part in parts) else 0.0,
        order=order,
        mpp=scales.pop() if len(scales) == 1 else None,
        origin=", ".join(file.name for file in files),
    )


def slide_source(
    slide: Slide, patch_px: int, rectangles: Sequence[tuple[int, int, int, int]], *, min_tissue: float = 0.5
) -> CropSource:
    """Crops from rectangles (x, y, width, height) of a slide's level 0; the slide must stay open."""
    part = _slide_part(slide, rectangles)
    origin = f"{slide.name}, {len(rectangles)} regions"
    return CropSource(
        part.pictures, patch_px, digest=part.digest, min_tissue=min_tissue, mpp=part.mpp, origin=origin, order="random"
    )


def block_rectangles(
    split: BlockSplit, role: Role, patch_px: int, min_tissue: float = 0.5
) -> list[tuple[int, int, int, int]]:
    """The blocks of one role that hold a patch with enough tissue, as (x, y, width, height), level-0 pixels."""
    found = split.positions(role, patch_px, max(patch_px // 4, 1), min_tissue)
    blocks = sorted({block for x, y in found if (block := split.block_of(x, y)) is not None})
    corners = [(column * split.pitch_px, row * split.pitch_px) for row, column in blocks]
    edge = split.block_px
    return [(x, y, min(edge, split.width - x), min(edge, split.height - y)) for x, y in corners]


@dataclass(frozen=True)
class _Part:
    pictures: list[Picture]
    digest: str
    mpp: float | None = None
    is_slide: bool = False


def _rng(seed: int, index: int, stream: int) -> np.random.Generator:
    # The low words of the counter are Philox's own; ours are the upper two, so that no two images share a number.
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, index, stream]))


def _open_one(path: Path, patch_px: int, role: Role | Literal["all"], min_tissue: float, mpp: float | None) -> _Part:
    if path.is_file() and path.suffix.lower() == ".zip":
        return _zip_part(path)
    if path.is_dir() or path.suffix.lower() in IMAGE_ENDINGS:
        return _patch_set_part(PatchSet.open(path), mpp)
    slide = Slide.open(path, mpp=mpp)
    if role == "all":
        return _slide_part(slide, list(_windows(*slide.dimensions, patch_px)))
    split = block_split(slide, PAPER_JUDGED_PX if patch_px > SMALL_PX else SAMPLE_JUDGED_PX)
    return _slide_part(slide, block_rectangles(split, role, patch_px, min_tissue))


def _windows(width: int, height: int, patch_px: int) -> Iterator[tuple[int, int, int, int]]:
    """Windows that overlap by a patch, so that every crop lies in one."""
    step = max(WINDOW_PX - patch_px, 1)
    for y in range(0, max(height - patch_px, 1), step):
        for x in range(0, max(width - patch_px, 1), step):
            yield x, y, min(WINDOW_PX, width - x), min(WINDOW_PX, height - y)


def _slide_part(slide: Slide, rectangles: Sequence[tuple[int, int, int, int]]) -> _Part:
    pictures = [
        Picture(f"{slide.name} at ({x}, {y})", w, h, partial(slide.read, x, y, w, h)) for x, y, w, h in rectangles
    ]
    digest = hashlib.sha256(f"{slide.digest} {list(rectangles)}".encode()).hexdigest()
    return _Part(pictures, digest, slide.mpp_or_none, is_slide=True)


def _patch_set_part(patches: PatchSet, mpp: float | None) -> _Part:
    table = patches.table
    pictures = [
        Picture(str(file), int(width), int(height), partial(read_image, patches.root / str(file), str(file)))
        for file, width, height in zip(table["file"], table["width"], table["height"], strict=True)
    ]
    scales = set(table["mpp"].dropna())
    digest = hashlib.sha256("".join(table["sha256"]).encode()).hexdigest()
    return _Part(pictures, digest, mpp if mpp is not None else (float(scales.pop()) if len(scales) == 1 else None))


def _zip_part(path: Path) -> _Part:
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as err:
        raise PatchError(f"{path.name} is not a readable zip: {err}.") from err
    names = sorted(name for name in archive.namelist() if Path(name).suffix.lower() in IMAGE_ENDINGS)
    digest, pictures = hashlib.sha256(), []
    for name in names:

        def load(name: str = name) -> NDArray[np.uint8]:
            return read_image(io.BytesIO(archive.read(name)), f"{path.name}/{name}")

        pixels = load()
        digest.update(pixel_digest(pixels).encode())
        pictures.append(Picture(f"{path.name}/{name}", pixels.shape[1], pixels.shape[0], load))
    return _Part(pictures, digest.hexdigest())
