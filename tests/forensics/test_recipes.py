"""Recipes: there is one a detector, they say what is done, and what is done is what they say."""

from dataclasses import fields

import numpy as np
import pytest

from histoforensics.forensics import DETECTORS, TrainingSet, auc
from histoforensics.forensics.augment import Augmentation
from histoforensics.forensics.recipes import RECIPES, WIDE, Recipe, recipe_of, train_by_recipe, train_seeds
from histoforensics.forensics.standins import HELD_OUT_KERNELS, stand_ins
from histoforensics.slides import ConfigError, DetectorError


@pytest.fixture(scope="module")
def data(tissue):
    parts = [tissue(16, 48, seed=s) for s in range(4)]
    rng = np.random.default_rng(9)
    return TrainingSet(
        real=parts[0],
        fake=stand_ins(parts[1], ["shuffle"], rng),
        calibration_real=parts[2],
        calibration_fake=stand_ins(parts[3], ["shuffle"], rng),
        fake_groups=np.repeat(["gan"], 16),
    )


def test_every_detector_has_a_recipe_with_three_seeds_and_stand_ins_that_leave_kernels_for_tests():
    assert set(RECIPES) == set(DETECTORS)
    for name, recipe in RECIPES.items():
        assert len(recipe.seeds) == 3
        assert (recipe.stand_ins > 0) == (name != "morphology-lr")  # whose cues a stand-in shares with real tissue
        assert not set(recipe.kernels) & set(HELD_OUT_KERNELS)


def test_the_wide_augmentation_leaves_nothing_out():
    strengths = [getattr(WIDE, f.name) for f in fields(Augmentation) if isinstance(f.default, float)]
    assert min(strengths) > 0
    assert WIDE.dihedral
    assert WIDE.jpeg_quality == (30, 100)


def test_the_card_tells_stand_ins_and_options(data):
    recipe = Recipe(stand_ins=0.5, kernels=("nearest",), options={"copies": 1, "recipe": WIDE})
    detector = train_by_recipe("wht-lr", data, recipe=recipe, options={"copies": 0})
    assert detector.card.trained_on["stand_ins"] == {"share": 0.5, "kernels": ["nearest"], "through_codec": False}
    assert detector.card.trained_on["fake"] == 32
    assert detector.card.options["copies"] == 0
    assert detector.card.options["recipe"]["resize"] == WIDE.resize


def test_seeds_give_a_detector_each_that_finds_fakes(data, tissue):
    recipe = Recipe(seeds=(4, 5), options={"copies": 1})
    trained = train_seeds("radial-lr", data, recipe=recipe)
    assert [detector.card.seed for detector in trained] == [4, 5]
    real = tissue(12, 48, seed=30)
    both = np.concatenate([real, stand_ins(real, ["shuffle"], np.random.default_rng(1))])
    scores = [detector.logits(both) for detector in trained]
    assert (scores[0] != scores[1]).any()
    assert min(auc(np.repeat([0, 1], 12), s) for s in scores) >= 0.9


def test_bad_recipes_and_unknown_names_are_refused(data):
    with pytest.raises(ConfigError, match=r"stand_ins must be a share from 0 to 1, got 2"):
        Recipe(stand_ins=2)
    with pytest.raises(ConfigError, match=r"seeds must be one or more different ones, got \(1, 1\)"):
        Recipe(seeds=(1, 1))
    with pytest.raises(ConfigError, match="unknown kernel 'sharp'"):
        Recipe(kernels=("sharp",))
    with pytest.raises(DetectorError, match="no recipe for 'rgb'; recipes are radial-lr"):
        recipe_of("rgb")
