"""Perturbations that do what they say, a table whose numbers can be counted, and a figure that shows them."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from histoforensics.benchmarks.margins import margins
from histoforensics.benchmarks.perturbations import (
    PERTURBATIONS,
    Perturbation,
    crop_phase,
    gamma,
    mean_change,
    perturbation,
    stain_shift,
)
from histoforensics.benchmarks.robustness import COLUMNS, robustness, subsample, summary
from histoforensics.benchmarks.robustness_figure import robustness_figure
from histoforensics.forensics.freezing import freeze
from histoforensics.forensics.radial import RadialDetector
from histoforensics.slides import ConfigError, DetectorError, ExamError, PatchError
from histoforensics.slides.synthetic import purple_tissue


@pytest.fixture(scope="module")
def patches():
    rng = np.random.default_rng(0)
    return np.stack([purple_tissue((32, 32), rng) for _ in range(160)])


@pytest.fixture(scope="module")
def smooth(patches):
    return patches // 2 + np.roll(patches, 1, axis=1) // 2


@pytest.fixture(scope="module")
def detector(patches, smooth):
    labels = np.repeat([0, 1], 40)
    made = RadialDetector.fit(np.concatenate([patches[:40], smooth[40:80]]), labels, seed=0)
    freeze(made, patches[80:100], smooth[100:120])
    return made


@pytest.fixture(scope="module")
def held_out(patches, smooth):
    return np.concatenate([patches[120:140], smooth[140:160]]), np.repeat([0, 1], 20)


@pytest.fixture(scope="module")
def table(detector, held_out):
    return robustness(detector, *held_out, n_boot=100, seed=1)


@pytest.mark.parametrize("one", PERTURBATIONS, ids=lambda one: one.name)
def test_every_severity_changes_the_image_more_the_farther_it_is_from_none(one, patches):
    changes = {severity: mean_change(patches[:20], one(patches[:20], severity)) for severity in one.severities}
    assert min(changes.values()) > 0
    if one.name == "jpeg":
        assert list(changes.values()) == sorted(changes.values())
    elif one.name in ("blur", "noise", "gamma", "stain"):
        for side in (-1, 1):
            away = [s for s in sorted(changes, key=lambda s: abs(s - one.neutral)) if (s - one.neutral) * side > 0]
            assert [changes[s] for s in away] == sorted(changes[s] for s in away)


@pytest.mark.parametrize("one", PERTURBATIONS, ids=lambda one: one.name)
def test_a_seed_fixes_it_and_the_severity_that_does_nothing_is_refused(one, patches):
    severity = one.severities[0]
    np.testing.assert_array_equal(one(patches[:4], severity, 5), one(patches[:4], severity, 5))
    assert one(patches[:4], severity).shape == patches[:4].shape
    if one.neutral is not None:
        with pytest.raises(PatchError, match=f"{one.name} at {one.neutral:g} changed nothing"):
            one(patches[:4], one.neutral)


def test_noise_depends_on_the_seed_and_has_the_strength_it_says(patches):
    noise = perturbation("noise")
    grey = np.full((20, 32, 32, 3), 128, np.uint8)
    assert (noise(grey, 5, 1) != noise(grey, 5, 2)).any()
    assert (noise(grey, 5).astype(float) - 128).std() == pytest.approx(5, rel=0.03)


def test_gamma_and_crop_phase_are_what_they_say(patches):
    assert gamma(np.full((1, 4, 4, 3), 64, np.uint8), 2.0)[0, 0, 0, 0] == round(255 * (64 / 255) ** 2)
    np.testing.assert_array_equal(crop_phase(patches, 3)[:, :-3, :-3], patches[:, 3:, 3:])
    with pytest.raises(ConfigError, match="exponent must be above 0, got 0"):
        gamma(patches, 0)
    with pytest.raises(ConfigError, match="px must be from 0"):
        crop_phase(patches, 32)
    with pytest.raises(ConfigError, match="perturbation must be one of jpeg, blur"):
        perturbation("rain")


def test_stain_shift_moves_density_towards_haematoxylin(patches):
    def blue_over_green(pixels):
        return (np.log1p(pixels[..., 1].astype(float)) - np.log1p(pixels[..., 2].astype(float))).mean()

    assert (
        blue_over_green(stain_shift(patches, 0.2))
        > blue_over_green(patches)
        > blue_over_green(stain_shift(patches, -0.2))
    )


def test_table_has_a_row_a_severity_and_numbers_that_can_be_counted(table, detector, held_out):
    assert list(table.columns) == list(COLUMNS)
    assert len(table) == 1 + sum(len(one.severities) for one in PERTURBATIONS)
    pixels, labels = held_out
    clean, blurred = table.iloc[0], table[(table["perturbation"] == "blur") & (table["severity"] == 1)].iloc[0]
    assert (clean["perturbation"], clean["mean_change"]) == ("none", 0)
    assert (table["mean_change"][1:] > 0).all()
    changed = perturbation("blur")(pixels, 1, 1)
    scores = detector.score(changed)
    assert blurred["auc"] == pytest.approx(roc_auc_score(labels, scores))
    assert blurred["tpr"] == (scores[20:] > detector.fake_above.item()).mean()
    assert blurred["fpr"] == (scores[:20] > detector.fake_above.item()).mean()
    assert blurred["mean_change"] == mean_change(pixels, changed)
    doubts = np.array([reason is not None for reason in detector.reasons_to_doubt(changed)])
    assert blurred["doubtful"] == doubts.mean()
    assert blurred["fpr_trusted"] == ((scores[:20] > detector.fake_above.item()) & ~doubts[:20]).mean()
    assert table.loc[table["severity"].eq(3) & table["perturbation"].eq("blur"), "doubtful"].item() == 1
    assert ((table["auc_low"] <= table["auc"]) & (table["auc"] <= table["auc_high"])).all()
    assert set(table["n_real"]) == set(table["n_fake"]) == {20}


def test_a_subsample_is_balanced_repeatable_and_counted(detector, held_out):
    labels = held_out[1]
    assert subsample(labels, 7, 3).tolist() == subsample(labels, 7, 3).tolist()
    assert np.bincount(labels[subsample(labels, 7)]).tolist() == [7, 7]
    few = robustness(detector, *held_out, perturbations=[perturbation("gamma")], limit=7, n_boot=100)
    assert set(few["n_real"]) == {7}
    with pytest.raises(ConfigError, match="limit must be at least 2, got 1"):
        subsample(labels, 1)


def test_a_perturbation_that_does_nothing_and_a_detector_without_thresholds_are_refused(detector, held_out):
    lame = Perturbation("lame", "nothing", (1.0,), lambda p, s, rng: p.copy(), None)
    with pytest.raises(PatchError, match="lame at 1 changed nothing; a curve of it would be a flat lie"):
        robustness(detector, *held_out, perturbations=[lame])
    with pytest.raises(DetectorError, match="no thresholds yet"):
        robustness(RadialDetector(32), *held_out)
    with pytest.raises(PatchError, match="40 patches need one label and one group each"):
        robustness(detector, held_out[0], held_out[1][:3])


def test_summary_names_the_severities_at_which_it_fails():
    rows = [("none", np.nan, 1.0), ("blur", 1.0, 0.95), ("blur", 2.0, 0.8), ("blur", 3.0, 0.5), ("jpeg", 70.0, 0.99)]
    table = pd.DataFrame(rows, columns=["perturbation", "severity", "auc"]).assign(
        detector="d", fpr=0.1, fpr_trusted=0.0
    )
    told = summary(table)
    assert told["fails_at"].tolist() == ["2, 3", ""]
    assert told["mean_auc"].tolist() == pytest.approx([0.75, 0.99])


def test_figure_has_a_panel_a_perturbation_and_names_the_detectors(table):
    svg = robustness_figure(pd.concat([table, table.assign(detector="another", auc=table["auc"] / 2)]))
    told = " ".join(ET.fromstring(svg).itertext())
    assert all(one.axis in told for one in PERTURBATIONS)
    assert "radial-lr" in told
    assert "another" in told
    assert svg == robustness_figure(pd.concat([table, table.assign(detector="another", auc=table["auc"] / 2)]))


def test_margins_are_over_the_best_control_and_corrected_for_the_number_of_detectors():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 60)
    controls = {"rgb": rng.normal(labels * 0.5), "slope": rng.normal(labels * 0.1)}
    found = margins(labels, {"good": rng.normal(labels * 3.0), "bad": rng.normal(labels * 0.5)}, controls, n_boot=200)
    assert found["good"].over == "rgb"
    assert found["good"].difference == pytest.approx(found["good"].auc - roc_auc_score(labels, controls["rgb"]))
    assert found["good"].p_holm == pytest.approx(2 * found["good"].p)
    assert found["good"].p_holm < 0.05 < found["bad"].p_holm
    with pytest.raises(ExamError, match="no control was given"):
        margins(labels, controls, {})
