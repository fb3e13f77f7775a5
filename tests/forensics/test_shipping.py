"""Shipping: the mixture's parts, the workshop's trainings and the cards, on a drawn slide and tiny counts."""

import json

import numpy as np
import pytest
from PIL import Image

from histoforensics.forensics import load_detector
from histoforensics.forensics.calibration import calibrate, probabilities
from histoforensics.forensics.detector import FAKE, REAL
from histoforensics.forensics.leaks import sha256_of_patches
from histoforensics.forensics.mixture import STAND_IN, Counts, MixtureConfig
from histoforensics.forensics.mixture_build import build_mixture
from histoforensics.forensics.shipping import BARS, limits, ship
from histoforensics.forensics.standins import HELD_OUT_KERNELS, TRAIN_KERNELS
from histoforensics.forensics.workshop import WARY, Workshop, wary
from histoforensics.forensics.workshop_exam import Unseen
from histoforensics.generators import load_generator, shipped
from histoforensics.slides import ConfigError, PatchSet, Slide
from histoforensics.slides.synthetic import purple_tissue, write_svs

FEW = Counts(train=30, calibration=10, exam=10)
CONFIG = MixtureConfig(patch_px=32, rounds=1, away_rounds=1, home=FEW, away=FEW, fakes=FEW, stand_ins=FEW, copies=1)
QUICK = {name: {"copies": 0} for name in ("radial-lr", "wht-lr")}

pytestmark = pytest.mark.skipif(len(shipped()) < 2, reason="two shipped generators are wanted")


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """Two slides of drawn tissue, in two JPEG qualities."""
    folder, rng = tmp_path_factory.mktemp("slides"), np.random.default_rng(0)
    files = [
        write_svs(folder / f"{name}.svs", purple_tissue((640, 640), rng), mpp=mpp, quality=quality)
        for name, quality, mpp in (("home", 40, 0.5), ("away", 90, None))
    ]
    return [Slide.open(file) for file in files]


@pytest.fixture(scope="module")
def generators():
    return {name: load_generator(name) for name in shipped()[:2]}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def mixture(slides, generators, work):
    return build_mixture(slides, generators, CONFIG, work / "patches")


@pytest.fixture(scope="module")
def workshop(mixture, work):
    return Workshop(mixture, work / "trainings", members=("radial-lr", "wht-lr"), options=QUICK)


@pytest.fixture(scope="module")
def shipment(workshop, tmp_path_factory):
    out, rng = tmp_path_factory.mktemp("shipment"), np.random.default_rng(3)
    (out / "strange").mkdir()
    for i in range(3):
        Image.fromarray(purple_tissue((80, 80), rng)).save(out / f"strange/{i}.png")
    unseen = Unseen.of(PatchSet.open(out / "strange", label="real"), 32)
    cards = ship(workshop, out / "all", names=("wht-lr", "fusion"), unseen=unseen, command="ship it")
    return out / "all", cards


def test_no_patch_serves_two_roles_and_no_block_two_either(mixture):
    pixels = {
        role: mixture.where(lambda p, r=role: p.role == r and p.kind == "clean")
        for role in ("train", "calibration", "exam")
    }
    for a, b in (("train", "calibration"), ("train", "exam"), ("calibration", "exam")):
        assert not set(sha256_of_patches(pixels[a][0])) & set(sha256_of_patches(pixels[b][0]))
    blocks = {
        role: set(mixture.where(lambda p, r=role: p.label == REAL and p.role == r)[1].tolist())
        for role in ("train", "calibration", "exam")
    }
    assert not blocks["train"] & blocks["calibration"] | blocks["train"] & blocks["exam"]


def test_both_classes_have_every_history_and_exam_stand_ins_have_kernels_of_their_own(mixture):
    for history in ("home", "away"):
        labels = {part.label for part in mixture.parts if part.history == history and part.role == "train"}
        assert labels == {REAL, FAKE}
    kernels = {
        role: set(mixture.where(lambda p, r=role: p.origin.startswith(STAND_IN) and p.role == r)[1].tolist())
        for role in ("train", "exam")
    }
    assert kernels["train"] == {STAND_IN + name for name in TRAIN_KERNELS}
    assert kernels["exam"] == {STAND_IN + name for name in HELD_OUT_KERNELS}


def test_kept_patches_are_used_again_and_a_new_seed_draws_others(slides, generators, work, mixture):
    before = {file: file.stat().st_mtime_ns for file in (work / "patches").iterdir()}
    again = build_mixture(slides, generators, CONFIG, work / "patches")
    assert {file: file.stat().st_mtime_ns for file in (work / "patches").iterdir()} == before
    np.testing.assert_array_equal(again.parts[0].pixels, mixture.parts[0].pixels)


def test_a_fusion_learns_its_weights_from_blocks_that_no_member_saw(workshop, mixture):
    member = workshop.member("wht-lr", mixture.generators)
    real, groups = mixture.where(lambda p: p.label == REAL and p.role == "train" and p.kind == "clean")
    apart = sha256_of_patches(real[np.isin(groups, sorted(workshop.stack_groups))])
    assert len(apart) > 0
    assert not set(apart) & set(member.seen["training"])
    assert set(apart) <= set(workshop.fusion(mixture.generators).seen["training"])


def test_a_member_without_a_generator_saw_none_of_its_fakes(workshop, mixture):
    left, kept = mixture.generators
    member = workshop.member("wht-lr", (kept,))
    fakes, _ = mixture.where(lambda p: p.origin == left)
    assert not set(sha256_of_patches(fakes)) & set(member.seen["training"])


def test_shipped_detectors_load_with_figures_limits_and_the_command(shipment, mixture):
    out, cards = shipment
    assert sorted(path.name for path in out.iterdir()) == ["fusion", "wht-lr"]
    for name, card in cards.items():
        loaded = load_detector(out / name)
        assert loaded.card == card
        assert loaded.card.commands == ("ship it",)
        assert (card.replay_rounds, card.mpp, card.patch_px) == (1, 0.5, 32)
        assert set(card.evaluation["leave_one_out"]["clean"]["each"]) == set(mixture.generators)
        assert card.evaluation["unseen_tissue"]["images"] == 3
        assert set(card.trained_on["generators"]) == set(mixture.generators)
        assert "home" in card.codec_policy
        assert str(out) not in json.dumps(card.evaluation)


def test_a_figure_of_the_card_can_be_had_again_from_the_detector(shipment, mixture):
    out, cards = shipment
    for name, card in cards.items():
        cell = card.evaluation["in_domain"]["clean"]
        detector = load_detector(out / name)
        real, _ = mixture.where(lambda p: p.label == REAL and p.role == "exam" and p.history == "home")
        fake, _ = mixture.where(lambda p: p.origin in mixture.generators and p.role == "exam" and p.history == "home")
        above = card.calibration.fake_above
        assert cell["n_real"] == len(real)
        assert cell["n_fake"] == len(fake)
        assert cell["false_positive_rate"] == pytest.approx((detector.score(real) > above).mean(), abs=2e-4)
        assert cell["true_positive_rate"] == pytest.approx((detector.score(fake) > above).mean(), abs=2e-4)


def test_what_is_there_is_replaced_only_when_that_is_asked_for(shipment, workshop):
    out, _ = shipment
    with pytest.raises(ConfigError, match="wht-lr"):
        ship(workshop, out, names=("wht-lr",))
    with pytest.raises(ConfigError, match=r"names must be some of fusion, .*, got 'fft'"):
        ship(workshop, out, names=("fft",))


def test_wary_thresholds_follow_reals_and_copies_only_where_known_fakes_lie_apart():
    reals, fakes = np.linspace(-4, -2, 100), np.linspace(3, 5, 50)
    apart = calibrate(reals, fakes)
    assert apart.real_below == apart.fake_above
    real = probabilities(np.linspace(-4, 0, 200), apart.scale, apart.bias)
    told = wary(apart, real, probabilities(fakes, apart.scale, apart.bias))
    assert (real > told.fake_above).mean() == pytest.approx(0.01)
    assert (real > told.real_below).mean() == pytest.approx(0.05)
    assert told.false_positive_rate == pytest.approx(0.01)
    assert (told.miss_rate, told.rule) == (0, WARY)
    mixed = calibrate(reals, reals + 0.5)
    assert wary(mixed, real, real) == mixed


def figures(mean, worst, unsure=0.1, jpeg=0.95, small=0.95, false=0.05, control=0.6):
    cell = {"auc": worst, "true_positive_rate": 0.5}
    return {
        "in_domain": {"clean": {"unsure": unsure}},
        "leave_one_out": {
            "clean": {"mean": mean, "worst": worst, "each": {"a": cell, "b": {**cell, "auc": 1.0}}},
            "jpeg_70": {"mean": jpeg}, "resize_0.75": {"mean": small},
        },
        "unseen_tissue": {"clean": {"false_positive_rate": false, "unsure": unsure}},
        "best_control": {"name": "rgb", "mean": control},
    }  # fmt: skip


def test_limits_name_each_bar_that_is_missed_and_none_that_is_reached():
    good, bad = limits(figures(0.97, 0.93)), limits(figures(0.8, 0.6, 0.5, 0.7, 0.6, 0.3, 0.9))
    assert not [line for line in good if "aimed at" in line]
    assert len([line for line in bad if "aimed at" in line]) == len(BARS)
    assert "Mean AUC on the generator left out: 0.80, where at least 0.95 was aimed at." in bad
    assert any(line.startswith("Weakest on a when that was left out of training: AUC 0.60, 50 %") for line in bad)
    assert any("the trivial cue rgb alone reaches AUC 0.90" in line for line in bad)
    assert not any("trivial cue" in line for line in good)
    assert any(line.startswith("Of real tissue of a kind never seen, 50 % is unsure") for line in bad)
    assert not any("is unsure" in line for line in good)
