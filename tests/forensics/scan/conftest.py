"""What the scan's tests share: a detector trained in a second, and slides with a fake planted in known places."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from histoforensics.forensics import Detector, TrainingSet, train_detector
from histoforensics.slides import Slide
from histoforensics.slides.synthetic import GLASS, purple_tissue, write_svs

DATA = Path(os.environ.get("HISTOFORENSICS_DATA", Path(__file__).parents[3] / "../shared/data"))
PATCH_PX = 64

Pixels = NDArray[np.uint8]


def fake(pixels: Pixels) -> Pixels:
    """The same tissue as an upsampling network leaves it: halved and enlarged again."""
    height, width = pixels.shape[:2]
    small = Image.fromarray(pixels).resize((width // 2, height // 2), Image.Resampling.BOX)
    return np.array(small.resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture(scope="session")
def forge() -> Callable[[Pixels], Pixels]:
    return fake


@pytest.fixture(scope="session")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    """wht-lr, trained on patches that went through the same JPEG as the slides will."""
    folder, rng = tmp_path_factory.mktemp("training"), np.random.default_rng(1)
    real = _cut(_through_svs(folder / "real.svs", purple_tissue((960, 960), rng)))
    fakes = _cut(_through_svs(folder / "fake.svs", fake(purple_tissue((960, 960), rng))))
    data = TrainingSet(
        real=real[:150], fake=fakes[:150], calibration_real=real[150:], calibration_fake=fakes[150:],
        provenance={"mpp": 0.25, "codec_policy": "both classes through the slide's JPEG"},
    )  # fmt: skip
    return train_detector("wht-lr", data)


@pytest.fixture(scope="session")
def detector_folder(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return detector.save(tmp_path_factory.mktemp("detectors") / "wht-lr")


@pytest.fixture
def planted(tmp_path: Path) -> tuple[Path, tuple[int, int]]:
    """A 1200 x 900 px slide, glass on its left fifth, with one fake patch; and that patch's corner (x, y)."""
    image, (x, y) = purple_tissue((900, 1200), np.random.default_rng(5)), (608, 352)
    image[:, :240] = GLASS
    image[y : y + PATCH_PX, x : x + PATCH_PX] = fake(image[y : y + PATCH_PX, x : x + PATCH_PX])
    return write_svs(tmp_path / "planted.svs", image), (x, y)


@pytest.fixture(scope="session")
def destroy_tile() -> Callable[[Path, int], None]:
    """Overwrites the JPEG data of one level-0 tile with noise."""

    def destroy(path: Path, index: int) -> None:
        with tifffile.TiffFile(path) as tif:
            start, count = tif.pages[0].dataoffsets[index], tif.pages[0].databytecounts[index]
        data = bytearray(path.read_bytes())
        data[start : start + count] = np.random.default_rng(0).bytes(count)
        path.write_bytes(data)

    return destroy


@pytest.fixture(scope="session")
def sample() -> Path:
    """The real sample slide, from the cache or where HISTOFORENSICS_SAMPLE says; never downloaded here."""
    from histoforensics.slides.sample import SAMPLE_NAME, cache_folder

    named = os.environ.get("HISTOFORENSICS_SAMPLE")
    path = Path(named) if named else cache_folder() / SAMPLE_NAME
    if not path.is_file():
        pytest.skip("the sample slide is not cached; `histoforensics slides sample` fetches it")
    return path


@pytest.fixture(scope="session")
def slide_without_mpp() -> Path:
    path = DATA / "wsi" / "TCGA-CR-7395-01A-01-TS1.svs"
    if not path.is_file():
        pytest.skip("the TCGA slide is not here; set HISTOFORENSICS_DATA to the folder that holds wsi/")
    return path


def _through_svs(path: Path, image: Pixels) -> Pixels:
    with Slide.open(write_svs(path, image)) as slide:
        return slide.read(0, 0, *slide.dimensions)


def _cut(image: Pixels) -> Pixels:
    rows, columns = (extent // PATCH_PX for extent in image.shape[:2])
    whole = image[: rows * PATCH_PX, : columns * PATCH_PX]
    return whole.reshape(rows, PATCH_PX, columns, PATCH_PX, 3).swapaxes(1, 2).reshape(-1, PATCH_PX, PATCH_PX, 3)
