"""The placebo holds 0.5 where there is nothing to find, and fails where there is."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from histoforensics.forensics.augment import jpeg
from histoforensics.forensics.metrics import cluster_bootstrap_auc
from histoforensics.forensics.placebo import (
    Placebo,
    cross_fitted,
    deal_folds,
    deal_labels,
    label_permutation_auc,
    placebo_auc,
)
from histoforensics.slides.errors import ConfigError, DetectorError, PatchError

FREQUENCY = ("radial-lr", "dct-ridge", "wht-lr")


class Discriminant:
    """Fisher's linear discriminant on raw values, with a ridge: cheap enough to train a thousand times."""

    def __init__(self, pixels, labels):
        x = pixels.reshape(len(pixels), -1).astype(float)
        scatter = np.cov(x.T) + np.eye(x.shape[1]) * 0.1 * x.var(0).mean()
        self.w = np.linalg.solve(scatter, x[labels == 1].mean(0) - x[labels == 0].mean(0))

    def logits(self, pixels):
        return pixels.reshape(len(pixels), -1).astype(float) @ self.w


def discriminant(pixels, labels, groups, seed):
    return Discriminant(pixels, labels)


def grouped_patches(rng, n_groups, each, px=3):
    groups = np.repeat(np.arange(n_groups), each)
    values = 128 + 30 * rng.normal(size=(n_groups, px, px, 3))[groups] + 20 * rng.normal(size=(len(groups), px, px, 3))
    return np.clip(values, 0, 255).astype(np.uint8), groups


@pytest.mark.parametrize(("n_groups", "each", "folds"), [(12, 4, 2), (12, 4, 3), (20, 6, 2)])
def test_without_a_difference_the_interval_holds_a_half_19_times_of_20_and_the_mean_is_a_half(n_groups, each, folds):
    holds, aucs = [], []
    for i in range(200):
        pixels, groups = grouped_patches(np.random.default_rng(i), n_groups, each)
        labels, scores = cross_fitted(discriminant, pixels, pixels, groups, folds=folds, seed=i)
        found = cluster_bootstrap_auc(labels, scores, groups, 300, seed=i)
        holds.append(found.holds(0.5))
        aucs.append(found.auc)
    assert 0.905 <= np.mean(holds) <= 0.99  # 0.95 within three standard errors of 200 runs
    assert abs(np.mean(aucs) - 0.5) < 3 * np.std(aucs) / np.sqrt(200)


def test_a_small_difference_is_found_and_a_large_one_is_found_completely():
    pixels, groups = grouped_patches(np.random.default_rng(0), 16, 10)
    for shift, least in ((15, 0.75), (60, 0.99)):
        moved = np.clip(pixels.astype(int) + shift * np.array([1, -1, 0]), 0, 255).astype(np.uint8)
        labels, scores = cross_fitted(discriminant, pixels, moved, groups, folds=2, seed=0)
        found = cluster_bootstrap_auc(labels, scores, groups, 300)
        assert found.auc >= least
        assert found.low > 0.5


def lossless_tissue(px=64):
    """Immunohistochemistry of scikit-image, a lossless PNG with two grey levels of noise, in 128-px blocks."""
    image = data.immunohistochemistry().astype(float)
    image = np.clip(image + 2 * np.random.default_rng(0).normal(size=image.shape), 0, 255).astype(np.uint8)
    places = [(y, x) for y in range(0, 512, px) for x in range(0, 512, px)]
    return np.stack([image[y : y + px, x : x + px] for y, x in places]), np.array(
        [f"{y // 128},{x // 128}" for y, x in places]
    )


@pytest.mark.parametrize("name", FREQUENCY)
def test_the_gate_can_fail_and_holds_where_both_classes_took_the_path(name):
    torch.set_num_threads(1)
    tissue, groups = lossless_tissue()
    compressed = jpeg(tissue, 70)
    raw = placebo_auc(name, tissue, compressed, groups, seed=0, n_boot=500)
    assert raw.auc >= 0.95
    assert not raw.holds
    assert (raw.n, raw.n_groups, raw.trainings) == (64, 16, 2)
    same = placebo_auc(name, compressed, compressed, groups, seed=0, n_boot=500)
    assert same.holds
    matched = placebo_auc(name, compressed, jpeg(compressed, 70), groups, seed=0, n_boot=500)
    assert matched.holds  # a second time through the same tables on the same grid


DATA = Path(os.environ.get("HISTOFORENSICS_DATA", Path(__file__).parents[3] / "shared" / "data")) / "glas"


@pytest.mark.skipif(not (DATA / "manifest.csv").is_file(), reason="needs GlaS in HISTOFORENSICS_DATA/glas")
@pytest.mark.parametrize("name", FREQUENCY)
def test_the_gate_can_fail_on_lossless_tissue_of_eight_patients(name):
    torch.set_num_threads(1)
    with (DATA / "manifest.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    chosen = [row for p in sorted({r["patient"] for r in rows}) for row in [r for r in rows if r["patient"] == p][:4]]
    images = [np.asarray(Image.open(DATA / row["file"]).convert("RGB")) for row in chosen]
    places = [(y, x) for y in (0, 112, 224) for x in (0, 112, 224, 336)]
    tissue = np.stack([image[y : y + 112, x : x + 112] for image in images for y, x in places])
    patients = np.repeat([row["patient"] for row in chosen], len(places))
    path = jpeg(tissue, 30, subsampling="4:4:4")  # as the sample slide's tiles; at quality 70 radial-lr reaches 0.88
    raw = placebo_auc(name, tissue, path, patients, seed=0, n_boot=500)
    assert raw.auc >= 0.95
    assert not raw.holds


def test_a_placebo_repeats_with_its_seed():
    tissue, groups = lossless_tissue()
    first, again, other = (placebo_auc("rgb", tissue, tissue, groups, seed=s, n_boot=200) for s in (0, 0, 1))
    assert first == again != other


def test_meaningless_labels_cannot_be_learned_unless_patches_leak():
    rng = np.random.default_rng(0)
    tissue, groups = lossless_tissue()
    clean = label_permutation_auc("rgb", tissue, groups, seed=0, n_boot=500)
    assert clean.holds
    assert clean.trainings == 1
    # eight colours, each in every group: what is learned of one group is true of the next
    colours = rng.integers(0, 256, (8, 1, 1, 3), dtype=np.uint8)
    leaked = np.repeat(np.tile(colours, (12, 1, 1, 1)), 32, axis=1).repeat(32, axis=2)
    tests = [label_permutation_auc("rgb", leaked, np.repeat(np.arange(12), 8), seed=s, n_boot=500) for s in range(4)]
    assert np.mean([t.auc for t in tests]) > 0.75
    assert sum(not t.holds for t in tests) >= 3


def test_labels_are_halved_within_each_group_and_over_all():
    groups = np.repeat(["a", "b", "c", "d"], [4, 7, 1, 10])
    for seed in range(20):
        labels = deal_labels(groups, np.random.default_rng(seed))
        assert sorted(set(labels)) == [0, 1]
        assert abs(labels.sum() - 11) <= 0.5
        for g in "abcd":
            assert abs(labels[groups == g].mean() * (groups == g).sum() - (groups == g).sum() / 2) <= 0.5
    shares = np.mean([deal_labels(groups, np.random.default_rng(s)) for s in range(400)], axis=0)
    assert np.abs(shares - 0.5).max() < 0.1  # each patch as often either


def test_groups_dealt_together_have_one_label():
    groups = np.repeat(np.arange(6), 3)
    labels = deal_labels(groups, np.random.default_rng(0), together=True)
    assert [len(set(labels[groups == g])) for g in range(6)] == [1] * 6
    assert labels.sum() == 9


def test_folds_keep_groups_whole_and_are_of_like_size():
    groups = np.repeat(np.arange(9), [9, 8, 7, 6, 5, 4, 3, 2, 1])
    fold = deal_folds(groups, 3, np.random.default_rng(0))
    assert all(len(set(fold[groups == g])) == 1 for g in range(9))
    assert np.ptp(np.bincount(fold)) <= 2


def test_what_cannot_be_judged_is_named():
    patches = np.zeros((6, 32, 32, 3), np.uint8)
    with pytest.raises(PatchError, match=r"2 folds need at least 4 groups .* got 3"):
        placebo_auc("rgb", patches, patches, np.repeat([0, 1, 2], 2))
    with pytest.raises(PatchError, match="each real patch once as it is and once after the path"):
        placebo_auc("rgb", patches, patches[:5], None)
    with pytest.raises(DetectorError, match="unknown detector 'none'"):
        placebo_auc("none", patches, patches, None)
    with pytest.raises(ConfigError, match="folds must be at least 2, got 1"):
        deal_folds(np.arange(6), 1, np.random.default_rng(0))


def test_an_interval_beside_a_half_does_not_hold():
    assert Placebo(auc=0.55, ci95=(0.49, 0.6), n=9, n_groups=4, trainings=2).holds
    assert not Placebo(auc=0.4, ci95=(0.3, 0.49), n=9, n_groups=4, trainings=2).holds
    assert not Placebo(auc=0.6, ci95=(0.51, 0.7), n=9, n_groups=4, trainings=2).holds
