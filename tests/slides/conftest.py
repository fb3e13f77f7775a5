"""What the slides' tests share: a small synthetic slide, and the real files where they are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from histoforensics.slides.synthetic import GLASS, purple_tissue, write_svs

DATA = Path(os.environ.get("HISTOFORENSICS_DATA", Path(__file__).parents[2] / "../shared/data"))
SAMPLE_SHA256 = "ed92d5a9f2e86df67640d6f92ce3e231419ce127131697fbbce42ad5e002c8a7"


@pytest.fixture(scope="session")
def texture() -> NDArray[np.uint8]:
    return purple_tissue((960, 960), np.random.default_rng(0))


@pytest.fixture
def small_slide(tmp_path: Path, texture: NDArray[np.uint8]) -> Path:
    """960 x 960 px; tissue on the left half, glass on the right."""
    image = texture.copy()
    image[:, 480:] = GLASS
    return write_svs(tmp_path / "small.svs", image, quality=60)


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
def jpeg2000_slide() -> Path:
    path = DATA / "wsi" / "TCGA-CR-7395-01A-01-TS1.svs"
    if not path.is_file():
        pytest.skip("the TCGA slide is not here; set HISTOFORENSICS_DATA to the folder that holds wsi/")
    return path
