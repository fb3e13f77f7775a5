"""Patch sets as other tools read them: the StyleGAN zip and the ImageFolder tree."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path, PurePosixPath

from .atomic import atomic_file, atomic_folder
from .errors import PatchError
from .images import IMAGE_SUFFIXES, encode_png, read_image
from .patchset import Label, PatchSet
from .writer import PatchSetWriter

DATASET_JSON = "dataset.json"
MAX_MEMBER_BYTES = 256 << 20  # a zip names its members' sizes itself: a patch never needs more


def write_stylegan_zip(patches: PatchSet, path: Path) -> Path:
    """An uncompressed zip of ``00000/img00000000.png`` and dataset.json, as StyleGAN2-ADA and its successors read it.

    Labels become classes (real 0, fake 1) when the set holds both; otherwise ``labels`` is null.

    Raises:
        PatchError: If the patches are not of one square size: those trainers need it.
    """
    _ = patches.size_px
    both = patches.table["label"].nunique() == 2
    classes = patches.labels.tolist() if both else None
    names = [f"{i // 1000:05d}/img{i:08d}.png" for i in range(len(patches))]
    with atomic_file(path) as work, zipfile.ZipFile(work, "w", zipfile.ZIP_STORED) as archive:
        for row, name in enumerate(names):
            archive.writestr(
                zipfile.ZipInfo(name), _as_png(patches, row)
            )  # ZipInfo's fixed date: equal sets, equal zips
        labels = None if classes is None else [list(pair) for pair in zip(names, classes, strict=True)]
        archive.writestr(zipfile.ZipInfo(DATASET_JSON), json.dumps({"labels": labels}))
    return path


def read_stylegan_zip(path: Path, out: Path, *, label: Label | None = None, source: str | None = None) -> PatchSet:
    """Import a StyleGAN zip as a patch set in ``out``; class numbers are not taken for real and fake.

    Raises:
        PatchError: If it is no zip, or holds no image, or one that is not 8-bit RGB.
    """
    try:
        with (
            zipfile.ZipFile(path) as archive,
            PatchSetWriter(out, card={"made_by": "StyleGAN zip", "zip": path.name}) as writer,
        ):
            for member in sorted(archive.infolist(), key=lambda info: info.filename):
                name = PurePosixPath(member.filename)
                if name.suffix.lower() not in IMAGE_SUFFIXES:
                    continue
                if member.file_size > MAX_MEMBER_BYTES:
                    raise PatchError(
                        f"{path.name}: {name.name} unpacks to {member.file_size:,} bytes, too much for a patch."
                    )
                pixels = read_image(io.BytesIO(archive.read(member)), f"{path.name}/{name.name}")
                writer.add(pixels, label=label, source_slide=source or path.stem)
            if not len(writer):
                raise PatchError(f"{path.name}: no images in the zip.")
    except (FileNotFoundError, zipfile.BadZipFile) as err:
        raise PatchError(f"{path.name}: not a readable zip file.") from err
    return PatchSet.open(out)


def write_imagefolder(patches: PatchSet, path: Path, *, overwrite: bool = False) -> Path:
    """``real/`` and ``fake/`` folders of PNGs, as torchvision's ImageFolder reads them.

    Raises:
        PatchError: If a patch has no label.
        ConfigError: If the folder holds something and ``overwrite`` is false.
    """
    labels = ["fake" if is_fake else "real" for is_fake in patches.labels]
    with atomic_folder(path, overwrite=overwrite) as work:
        for number, (label, file) in enumerate(zip(labels, patches.table["file"], strict=True)):
            target = work / label / f"{number:06d}_{PurePosixPath(str(file)).stem}.png"
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(_as_png(patches, number))
    return path


def _as_png(patches: PatchSet, row: int) -> bytes:
    """A patch that we wrote is copied byte for byte, marks and all; another image is decoded and stored losslessly."""
    path = patches.root / str(patches.table["file"].iloc[row])
    if patches.table["png_bytes"].notna().iloc[row]:
        return path.read_bytes()
    return encode_png(read_image(path))
