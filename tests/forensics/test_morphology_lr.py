import numpy as np
import pytest
from scipy import ndimage
from sklearn.linear_model import LogisticRegression

from histoforensics.forensics import DETECTORS, load_detector
from histoforensics.forensics.morphology import FEATURES, NAMES, REASONS, morphology
from histoforensics.forensics.morphology_lr import BASELINE, MorphologyDetector
from histoforensics.forensics.stains import stain_matrix
from histoforensics.slides import ConfigError, PatchError

PX, MPP = 80, 0.5
EACH = 16
Y, X = np.mgrid[:PX, :PX]


def patch(rng, ratio):
    """Four nuclei on eosin, long ones where ``ratio`` is below 1, turned and placed at random."""
    blue = np.zeros((PX, PX))
    for y, x in ((20, 20), (20, 60), (60, 20), (60, 60)):
        angle, dy, dx = rng.uniform(0, np.pi), *rng.uniform(-4, 4, 2)
        u, v = (
            (X - x - dx) * np.cos(angle) + (Y - y - dy) * np.sin(angle),
            (Y - y - dy) * np.cos(angle) - (X - x - dx) * np.sin(angle),
        )
        size = rng.uniform(7, 9)
        blue[(u * ratio**0.5 / size) ** 2 + (v / ratio**0.5 / size) ** 2 <= 1] = 1.2
    density = ndimage.gaussian_filter(blue, 0.5)[..., None] * stain_matrix()[0] + 0.6 * stain_matrix()[1]
    return np.clip(256 * np.exp(-density) - 1 + rng.normal(0, 2, (PX, PX, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(0)
    return np.stack([patch(rng, 0.9 if i < EACH else 0.45) for i in range(2 * EACH)]), np.repeat([0, 1], EACH)


@pytest.fixture(scope="module")
def fitted(drawn):
    return MorphologyDetector.fit(*drawn, seed=0, mpp=MPP)


def test_it_is_registered():
    assert DETECTORS["morphology-lr"] is MorphologyDetector


def test_the_contributions_of_a_patch_sum_to_its_logit(drawn, fitted):
    pixels = drawn[0][::4]
    logits = fitted.logits(pixels)
    for by, columns in (("reason", [*REASONS, BASELINE]), ("feature", [*NAMES, BASELINE])):
        table = fitted.reasons(pixels, by=by)
        assert list(table.columns) == columns
        assert table.sum(axis=1).to_numpy() == pytest.approx(logits, abs=1e-4)
        assert not table.isna().any().any()


def test_long_nuclei_are_found_and_told_as_shape(drawn, fitted):
    rng = np.random.default_rng(1)
    long, round_ = (np.stack([patch(rng, ratio) for _ in range(6)]) for ratio in (0.45, 0.9))
    assert fitted.logits(long).min() > fitted.logits(round_).max()
    mean = fitted.reasons(long).mean()
    assert mean.drop(BASELINE).idxmax() == "nuclear-shape"
    assert fitted.reasons(round_)["nuclear-shape"].mean() < 0


def test_the_logit_is_that_of_scikit_learn_on_the_filled_features(drawn, fitted):
    pixels, labels = drawn
    x = morphology(pixels, MPP).astype(float)
    centre = fitted.centre.double().numpy()
    x = np.where(np.isnan(x), centre, x)
    std = np.where(x.std(0) < 1e-9, 1, x.std(0))
    penalty = fitted.card.run["fit"]["penalty"]
    model = LogisticRegression(C=1 / penalty, class_weight="balanced", tol=1e-8, max_iter=5000)
    wanted = model.fit((x - x.mean(0)) / std, labels).decision_function((x - x.mean(0)) / std)
    assert fitted.logits(pixels) == pytest.approx(wanted, abs=1e-3)


def test_a_patch_with_nothing_to_measure_gets_the_baseline(fitted):
    white = np.full((1, PX, PX, 3), 255, np.uint8)
    assert fitted.logits(white) == pytest.approx([fitted.intercept.item()])
    assert (fitted.reasons(white).drop(columns=BASELINE) == 0).all().all()


def test_what_no_training_patch_had_weighs_nothing(fitted):
    never = NAMES.index("red_cell_roundness")
    assert fitted.weights[never] == 0
    assert FEATURES[never].reason == "red-cells"


def test_a_saved_detector_judges_and_explains_as_before(tmp_path, drawn, fitted):
    back = load_detector(fitted.save(tmp_path / "morphology-lr"))
    assert back.mpp == MPP
    assert back.logits(drawn[0][:4]) == pytest.approx(fitted.logits(drawn[0][:4]))
    assert back.reasons(drawn[0][:4]).equals(fitted.reasons(drawn[0][:4]))


def test_bad_options_and_patches_are_refused(fitted):
    with pytest.raises(ConfigError, match=r"mpp must be from 0.1 to 1.0 um per pixel, got 2"):
        MorphologyDetector(64, mpp=2)
    with pytest.raises(ConfigError, match='by must be "reason" or "feature", got'):
        fitted.reasons(np.zeros((1, PX, PX, 3), np.uint8), by="colour")
    with pytest.raises(PatchError, match="patches are 32 x 32 px, but this detector judges 80 x 80 px"):
        fitted.reasons(np.zeros((1, 32, 32, 3), np.uint8))
