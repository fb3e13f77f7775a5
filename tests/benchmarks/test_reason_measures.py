"""Reasons beside features, on invented measurements whose differences are known."""

import numpy as np
import pytest

from histoforensics.benchmarks import reason_measures
from histoforensics.benchmarks.reason_measures import reasons_on_exam
from histoforensics.benchmarks.study import Study
from histoforensics.forensics.morphology import FEATURES, NAMES, REASONS


@pytest.fixture
def study(study_root):
    return Study.open(study_root)


@pytest.fixture
def features(study, monkeypatch):
    """Every feature 0 on reals and 1 on fakes, but lobulation, which nobody can measure, and a constant one."""
    fake = (study.exam.key["truth"] == "fake").to_numpy(float)
    table = np.repeat(fake[:, None], len(FEATURES), axis=1) + np.linspace(0, 1e-6, len(fake))[:, None]
    table[:, NAMES.index("lobulation")] = np.nan
    table[:, NAMES.index("touching_nuclei")] = 0.5
    monkeypatch.setattr(reason_measures, "morphology", lambda pixels, mpp: table)
    return table


def test_what_fakes_have_more_of_is_plus_one_and_what_is_alike_nought(study, features):
    rows = reasons_on_exam(study, {}, [])["rows"]
    (size,) = rows["cell-size"]
    assert (size["feature"], size["delta"], size["ci95"]) == ("nuclear_size_variation", 1.0, [1.0, 1.0])
    assert (rows["nuclear-lobulation"][0]["delta"], rows["nuclear-lobulation"][0]["ci95"]) == (None, None)
    assert rows["nuclear-separation"][0]["delta"] == 0.0
    assert set(rows) == set(REASONS)
    assert all(one["delta_ticked"] is None and one["n_ticked"] == 0 for part in rows.values() for one in part)


def test_ticked_patches_are_set_against_those_that_were_looked_at_and_not_ticked(study, features):
    key = study.exam.key
    fakes, reals = (list(key.loc[key["truth"] == name, "id"].astype(str)) for name in ("fake", "real"))
    everything = [*fakes, *reals]
    seen = reasons_on_exam(study, {"cell-size": fakes, "background": reals}, everything)["rows"]
    assert (seen["cell-size"][0]["delta_ticked"], seen["cell-size"][0]["n_ticked"]) == (1.0, len(fakes))
    assert seen["background"][0]["delta_ticked"] == -1.0
    half = reasons_on_exam(study, {"cell-size": fakes}, fakes)["rows"]["cell-size"][0]
    assert half["delta_ticked"] is None  # nothing was looked at and not ticked


def test_without_a_scale_nothing_is_measured(study):
    object.__setattr__(study.settings, "mpp", None)
    assert reasons_on_exam(study, {}, []) == {"why_not": "the patches' resolution is not known", "rows": {}}
    object.__setattr__(study.settings, "mpp", 4.0)
    assert "of 4 um/px is outside 0.1 to 1" in reasons_on_exam(study, {}, [])["why_not"]
