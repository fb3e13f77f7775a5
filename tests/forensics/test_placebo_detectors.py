"""The retrained placebo of detectors that are slow to train, on drawn tissue: 0.5 where both classes took one path."""

import numpy as np
import pytest

from histoforensics.forensics.augment import jpeg
from histoforensics.forensics.cnn import CnnRecipe
from histoforensics.forensics.placebo import placebo_auc

PLAIN = {"radial-lr": {"copies": 0}, "wht-lr": {"copies": 0}}
STACKED = {"members": ("wht-lr", "radial-lr"), "folds": 2, "member_options": PLAIN}
OPTIONS = {
    "patch-xception": {"recipe": CnnRecipe(steps=20, check_every=10, crop_px=None)},
    "encoder-linear": {"copies": 0, "stages": (1, 2)},
    "cooccurrence": {"copies": 0},
    "fusion": STACKED,
    "cascade": STACKED,
    "morphology-lr": {"copies": 0},
}
QUALITY, GROUPS, EACH, PX = 70, 20, 6, 64


@pytest.fixture(scope="module")
def lossless(tissue):
    return tissue(GROUPS * EACH, PX, seed=4), np.repeat(np.arange(GROUPS), EACH)


@pytest.mark.parametrize("name", OPTIONS)
def test_reals_that_took_the_path_of_the_fakes_cannot_be_told_from_other_reals(lossless, name):
    pixels, groups = lossless
    once = jpeg(pixels, QUALITY)
    again = jpeg(once, QUALITY)  # the fakes' path: the same tables on the same grid
    found = placebo_auc(name, once, again, groups, options=OPTIONS[name])
    assert found.n == len(pixels)
    assert found.holds, found


@pytest.mark.parametrize("name", ["fusion", "cascade"])
def test_the_same_detectors_find_a_path_that_only_one_class_took(lossless, name):
    pixels, groups = lossless
    found = placebo_auc(name, pixels, jpeg(pixels, 30), groups, options=OPTIONS[name])
    assert found.auc >= 0.9
    assert not found.holds
