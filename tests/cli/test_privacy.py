"""A slide full of marks that must not get out: each is looked for in every byte that any command writes or prints."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import openslide
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from histoforensics.cli import app
from histoforensics.forensics import TrainingSet, train_detector
from histoforensics.forensics.tamper import TamperConfig, tamper
from histoforensics.forensics.tamper_donors import open_donor
from histoforensics.slides.phi import phi_report, sort_properties
from histoforensics.slides.synthetic import purple_tissue, write_svs

NOTES = {
    "User": "canary-operator", "Date": "canary-date", "Time": "canary-time", "ScanScope ID": "canary-serial",
    "ImageID": "canary-image", "Title": "canary-title", "Barcode": "canary-barcode", "Filename": "canary-file",
    "Patient Name": "canary-patient", "Canary Jane Doe": "canary-unheard-of",
}  # fmt: skip
MAGENTA = (255, 0, 255)  # of the label: no stain, no heat map has it


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    label = np.full((64, 96, 3), MAGENTA, np.uint8)
    return write_svs(
        tmp_path_factory.mktemp("slide") / "case.svs",
        purple_tissue((480, 720), np.random.default_rng(0)),
        notes=NOTES,
        levels=2,
        label=label,
    )


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (80, 64, 64, 3)).astype(np.uint8)
    soft = noise // 2 + np.roll(noise, 1, axis=1) // 2
    data = TrainingSet(real=noise[:40], fake=soft[:40], calibration_real=noise[40:], calibration_fake=soft[40:])
    return train_detector("wht-lr", data).save(tmp_path_factory.mktemp("detectors") / "wht-lr")


def assert_clean(folder: Path, said: str) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    assert b"canary" not in _as_seen(said.encode())
    for path in files:
        assert b"canary" not in _as_seen(path.name.encode() + path.read_bytes() + _unpacked(path)), path.name
        for pixels in _pictures(path):
            assert not (pixels[..., :3] == MAGENTA).all(-1).any(), path.name


def _as_seen(data: bytes) -> bytes:
    """In lower case, and without the zeros that wide characters have between theirs."""
    return data.lower() + data.replace(b"\0", b"").lower()


def _unpacked(path: Path) -> bytes:
    """What the formats compress."""
    if path.suffix == ".parquet":
        return pd.read_parquet(path).to_csv().encode()
    if path.suffix == ".h5":
        found: list[str] = []
        with h5py.File(path) as file:
            file.visititems(lambda name, item: found.append(f"{name} {dict(item.attrs)}"))
            return str([dict(file.attrs), found]).encode()
    if path.suffix == ".png":
        with Image.open(path) as image:
            return str(image.info).encode()
    return b""


def _pictures(path: Path) -> list[np.ndarray]:
    if path.suffix == ".png":
        with Image.open(path) as image:
            return [np.asarray(image.convert("RGB"))]
    if path.suffix == ".tif":
        return _tiff_pictures(path)
    return []


def _tiff_pictures(path: Path) -> list[np.ndarray]:
    """Every level and associated image of a slide; a score map has none of them."""
    try:
        with openslide.OpenSlide(path) as handle:
            levels = [
                np.asarray(handle.read_region((0, 0), level, size))
                for level, size in enumerate(handle.level_dimensions)
            ]
            return levels + [np.asarray(image) for image in handle.associated_images.values()]
    except openslide.OpenSlideError:
        return []


def test_the_marks_are_in_the_slide_and_the_search_can_find_them(marked: Path, tmp_path: Path) -> None:
    with openslide.OpenSlide(marked) as handle:
        values = set(handle.properties.values())
        assert set(NOTES.values()) <= values
        assert "label" in handle.associated_images
        handle.associated_images["label"].convert("RGB").save(tmp_path / "leak.png")
    with pytest.raises(AssertionError, match=r"leak\.png"):
        assert_clean(tmp_path, "")
    (tmp_path / "leak.png").unlink()
    pd.DataFrame({"who": ["Canary-Operator"] * 50}).to_parquet(tmp_path / "leak.parquet")
    with pytest.raises(AssertionError, match=r"leak\.parquet"):
        assert_clean(tmp_path, "")


def test_tiling_lets_nothing_out(marked: Path, tmp_path: Path) -> None:
    said = run("slides", "tile", marked, "--preset", "mpp", "--patch-px", 128, "--out", tmp_path / "patches")
    assert len(list((tmp_path / "patches").rglob("*.png"))) > 5
    assert_clean(tmp_path, said)


def test_scanning_lets_nothing_out(marked: Path, detector: Path, tmp_path: Path) -> None:
    said = run("scan", marked, "--detector", detector, "--engine", "serial", "--out", tmp_path / "scan")
    assert {path.suffix for path in tmp_path.rglob("*")} >= {".parquet", ".csv", ".h5", ".png", ".tif", ".geojson"}
    assert_clean(tmp_path, said)


def test_tampering_lets_nothing_out(marked: Path, tmp_path: Path) -> None:
    fakes = tmp_path / "fakes"
    fakes.mkdir()
    for seed in range(4):
        tissue = purple_tissue((256, 256), np.random.default_rng(seed))
        Image.fromarray(tissue).save(fakes / f"{seed}.png")
    report = tamper(marked, open_donor(str(fakes)), TamperConfig(regions=1, sizes_px=(112,)), tmp_path / "tampered")
    assert_clean(tmp_path / "tampered", json.dumps(report.log))


def test_information_on_a_slide_lets_nothing_out(marked: Path, tmp_path: Path) -> None:
    for options in ((), ("--json",), ("--phi",), ("--phi", "--json")):
        (tmp_path / "said.txt").write_text(run("slides", "info", marked, *options))
        assert_clean(tmp_path, "")


def test_the_report_names_what_is_there_and_no_value(marked: Path) -> None:
    found = phi_report(marked)
    assert found.images == ("label", "thumbnail")
    assert found.properties == {
        "patient or case": ("aperio.Patient Name",),
        "label or barcode": ("aperio.Barcode", "aperio.ImageID", "aperio.Title"),
        "operator": ("aperio.User",),
        "date or time": ("aperio.Date", "aperio.Time"),
        "scanner": ("aperio.ScanScope ID",),
        "file": ("aperio.Filename",),
        "free text": ("openslide.comment", "tiff.ImageDescription"),
    }
    assert found.others == 1  # a name that nobody knows may be a person's
    assert found.tags == ("ImageDescription (4 pages)",)
    assert not found.is_clean
    said = run("slides", "info", marked, "--phi")
    assert "operator         aperio.User" in said
    assert "1 properties whose names are not shown" in said


def test_other_scanners_words_are_known() -> None:
    names = [
        "hamamatsu.Created", "hamamatsu.NDP.S/N", "philips.PIM_DP_UFS_BARCODE", "dicom.PatientName", "leica.barcode",
        "mirax.GENERAL.SLIDE_CREATIONDATETIME", "ventana.UserName", "openslide.barcode", "tiff.DateTime",
        "openslide.mpp-x", "openslide.level[0].width", "ventana.Jane",
    ]  # fmt: skip
    found, others = sort_properties(names)
    assert others == 1
    assert found == {
        "patient or case": ("dicom.PatientName",),
        "label or barcode": ("leica.barcode", "openslide.barcode", "philips.PIM_DP_UFS_BARCODE"),
        "operator": ("ventana.UserName",),
        "date or time": ("hamamatsu.Created", "mirax.GENERAL.SLIDE_CREATIONDATETIME", "tiff.DateTime"),
        "scanner": ("hamamatsu.NDP.S/N",),
    }
