"""A patch set: a folder of lossless patches with a manifest, or any folder of images opened as one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import PatchError
from .images import IMAGE_SUFFIXES, pixel_digest, read_image
from .manifest import CARD, FAKE_NAME, MANIFEST, REAL_NAME, build_manifest, read_manifest
from .progress import Progress
from .tissue import tissue_fraction

if TYPE_CHECKING:
    import pandas as pd

Label = Literal["real", "fake"]


@dataclass(frozen=True, eq=False)
class PatchSet:
    """Patches on disk: ``table`` has one row a patch, pixels are read when asked for.

    Attributes:
        root: The folder that the column ``file`` is relative to.
        table: The manifest, columns as in ``slides.manifest.COLUMNS``; its index is 0, 1, ...
        card: How the set was made.
    """

    root: Path
    table: pd.DataFrame
    card: dict[str, Any]

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        label: Label | None = None,
        source: str | None = None,
        progress: Progress | None = None,
    ) -> PatchSet:
        """Open a patch set, a plain folder of images (searched to any depth), or one image file.

        Args:
            path: The folder or file.
            label: Overrides what the manifest says; a plain folder says nothing.
            source: Name of the slide or generator for the rows that name none.
            progress: Called while a plain folder is read: every image is decoded once, for its digest.

        Raises:
            PatchError: If nothing is there, no image is in it, or an image is not plain 8-bit RGB or grey.
        """
        path = Path(path)
        if path.is_dir() and (path / MANIFEST).is_file():
            patches = cls(path, read_manifest(path), _read_card(path))
        else:
            root, files, ignored = _image_files(path)
            table = _plain_manifest(root, files, progress)
            patches = cls(root, table, {"made_by": "plain images", "folder": path.name, "files_ignored": ignored})
        if not len(patches):
            raise PatchError(f"{path.name}: the patch set is empty.")
        return patches._named(label, source)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def size_px(self) -> int:
        """The one edge length of all patches, pixels.

        Raises:
            PatchError: If a patch is not square or two differ.
        """
        sizes = self.table.groupby(["width", "height"]).size()
        shapes = [(int(width), int(height)) for width, height in sizes.index]
        if len(shapes) != 1 or shapes[0][0] != shapes[0][1]:
            found = ", ".join(f"{count} of {w} x {h}" for (w, h), count in zip(shapes[:4], sizes, strict=False))
            raise PatchError(f"{self.root.name}: patches of one square size are wanted, found {found or 'none'} px.")
        return shapes[0][0]

    @property
    def labels(self) -> NDArray[np.int8]:
        """0 for real and 1 for fake, shape (n,).

        Raises:
            PatchError: If a patch has no label.
        """
        unknown = int((~self.table["label"].isin([REAL_NAME, FAKE_NAME])).sum())
        if unknown:
            raise PatchError(f"{self.root.name}: {unknown} of {len(self)} patches are labelled neither real nor fake.")
        return np.asarray(self.table["label"] == FAKE_NAME, dtype=np.int8)

    def pixels(self, rows: Sequence[int] | NDArray[np.integer[Any]] | slice | None = None) -> NDArray[np.uint8]:
        """The patches at ``rows`` (default all), RGB (n, h, w, 3), uint8.

        Raises:
            PatchError: If they differ in size, or a file is missing or broken.
        """
        chosen = (
            self.table if rows is None else self.table.iloc[rows if isinstance(rows, slice) else np.asarray(rows, int)]
        )
        images = [self._read(str(file)) for file in chosen["file"]]
        shapes = {image.shape for image in images}
        if len(shapes) > 1:
            found = sorted(f"{w} x {h}" for h, w, _ in shapes)
            raise PatchError(f"{self.root.name}: patches of one size are wanted, found {', '.join(found[:4])} px.")
        return np.stack(images) if images else np.zeros((0, 0, 0, 3), np.uint8)

    def batches(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """The patches in order, ``size`` at a time: (<= size, h, w, 3), uint8."""
        for start in range(0, len(self), size):
            yield self.pixels(slice(start, start + size))

    def where(self, mask: Any) -> PatchSet:
        """A view of the rows where ``mask`` (n booleans) is true; no file is copied."""
        chosen = np.asarray(mask, dtype=bool)
        return PatchSet(self.root, self.table[chosen].reset_index(drop=True), self.card)

    def verify(self) -> None:
        """Read every patch and compare it with its digest.

        Raises:
            PatchError: If a file is missing or broken, or its pixels have changed since the manifest was written.
        """
        for file, digest in zip(self.table["file"], self.table["sha256"], strict=True):
            if pixel_digest(self._read(str(file))) != digest:
                raise PatchError(f"{self.root.name}/{file}: the pixels are not those in the manifest; make it again.")

    def to_stylegan_zip(self, path: Path | str) -> Path:
        """Export for the StyleGAN family: see :func:`histoforensics.slides.export.write_stylegan_zip`."""
        from .export import write_stylegan_zip

        return write_stylegan_zip(self, Path(path))

    def to_imagefolder(self, path: Path | str, *, overwrite: bool = False) -> Path:
        """Export one folder a label: see :func:`histoforensics.slides.export.write_imagefolder`."""
        from .export import write_imagefolder

        return write_imagefolder(self, Path(path), overwrite=overwrite)

    @classmethod
    def from_stylegan_zip(
        cls, path: Path | str, out: Path | str, *, label: Label | None = None, source: str | None = None
    ) -> PatchSet:
        """Import a StyleGAN zip into a new folder: see :func:`histoforensics.slides.export.read_stylegan_zip`."""
        from .export import read_stylegan_zip

        return read_stylegan_zip(Path(path), Path(out), label=label, source=source)

    def _read(self, file: str) -> NDArray[np.uint8]:
        path = self.root / file
        if not path.is_file():
            raise PatchError(f"{self.root.name}/{file}: the patch is in the manifest but not on disk.")
        return read_image(path, f"{self.root.name}/{file}")

    def _named(self, label: Label | None, source: str | None) -> PatchSet:
        import pandas as pd  # 100 MB with pyarrow, which a scan's workers are spared

        table = self.table.copy()
        if label is not None:
            table["label"] = pd.array([label] * len(table), dtype="string")
        if source is not None:
            table["source_slide"] = table["source_slide"].fillna(source)
        return PatchSet(self.root, table, self.card)


def _image_files(path: Path) -> tuple[Path, list[Path], int]:
    if path.is_file():
        return path.parent, [path], 0
    if not path.is_dir():
        raise PatchError(f"{path.name}: no such file or folder.")
    found = sorted(
        p for p in path.rglob("*") if p.is_file() and not any(q.startswith(".") for q in p.relative_to(path).parts)
    )
    images = [p for p in found if p.suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        raise PatchError(
            f"{path.name}: no images in the folder ({len(found)} other files); "
            f"wanted {', '.join(sorted(IMAGE_SUFFIXES))}."
        )
    return path, images, len(found) - len(images)


def _plain_manifest(root: Path, files: Sequence[Path], progress: Progress | None) -> pd.DataFrame:
    rows: list[Mapping[str, Any]] = []
    for number, path in enumerate(files, 1):
        name = path.relative_to(root).as_posix()
        pixels = read_image(path, name)
        rows.append({
            "id": name, "file": name, "sha256": pixel_digest(pixels),
            "width": pixels.shape[1], "height": pixels.shape[0], "tissue_fraction": float(tissue_fraction(pixels)),
        })  # fmt: skip
        if progress is not None:
            progress(number, len(files), root.name)
    return build_manifest(rows)


def _read_card(folder: Path) -> dict[str, Any]:
    path = folder / CARD
    if not path.is_file():
        return {}
    try:
        card = json.loads(path.read_text("utf-8"))
    except ValueError as err:
        raise PatchError(f"{folder.name}/{CARD}: not readable JSON ({err}).") from err
    if not isinstance(card, dict):
        raise PatchError(f"{folder.name}/{CARD}: must hold a JSON object, got {type(card).__name__}.")
    return card
