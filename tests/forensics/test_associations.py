"""Cramér's V against scipy, its bias against simulation, and columns of every kind."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats.contingency import association

from histoforensics.forensics.associations import MISSING, Role, associate, cramers_v, levels
from histoforensics.slides import PatchError


def test_without_its_correction_it_would_be_scipys():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 20_000)
    values = rng.integers(0, 4, 20_000) + (labels & (rng.random(20_000) < 0.3))
    table = pd.crosstab(values, labels).to_numpy()
    v, p = cramers_v(values, labels)
    assert v == pytest.approx(association(table, method="cramer"), abs=0.002)  # the bias goes with 1 / n
    assert p < 1e-10


def test_correction_is_bergsmas_formula_by_hand():
    values, labels = np.array(list("aaabbbcccc")), np.array([0, 0, 1, 0, 1, 1, 1, 1, 1, 0])
    n, r, k = 10, 3, 2
    phi2 = association(pd.crosstab(values, labels).to_numpy(), method="cramer") ** 2
    least = min(r - (r - 1) ** 2 / (n - 1), k - (k - 1) ** 2 / (n - 1)) - 1
    assert cramers_v(values, labels)[0] == pytest.approx(np.sqrt(max(0, phi2 - (r - 1) / (n - 1)) / least), abs=1e-9)


def test_nothing_is_found_where_nothing_is_though_scipys_finds_it():
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 30)
    found = [cramers_v(rng.integers(0, 10, 60), labels)[0] for _ in range(200)]
    assert np.mean(found) < 0.15
    plain = [association(pd.crosstab(rng.integers(0, 10, 60), labels).to_numpy()) for _ in range(20)]
    assert np.mean(plain) > 0.3


@pytest.mark.parametrize(
    ("values", "wanted"),
    [(["a", "b"] * 20, 1.0), (["a"] * 40, 0.0), ([str(i) for i in range(40)], 0.0), (["a", "a", "b", "b"] * 10, 0.0)],
)
def test_known_cases(values, wanted):
    assert cramers_v(np.array(values), np.array([0, 1] * 20))[0] == pytest.approx(wanted)


def test_one_class_or_unequal_lengths_are_refused():
    with pytest.raises(PatchError, match="two classes"):
        cramers_v(np.array(["a", "b"]), np.array([0, 0]))
    with pytest.raises(PatchError, match="one label a value"):
        cramers_v(np.array(["a", "b"]), np.array([0, 1, 1]))


def test_numbers_are_binned_and_missing_values_are_a_level():
    column = pd.Series([*np.arange(99.0), None], dtype="Float64")
    told = levels(column)
    assert len(set(told)) == 6
    assert told[-1] == MISSING
    assert levels(pd.Series([1, 1, 2])).tolist() == ["1", "1", "2"]
    assert levels(pd.Series([True, None, False])).tolist() == ["True", MISSING, "False"]


def test_fields_get_their_role_and_identity_is_left_out():
    real = pd.DataFrame({"id": range(30), "codec": "jpeg", "generator": None, "mpp": 0.5, "empty": None})
    fake = pd.DataFrame({"id": range(30), "codec": None, "generator": "gan", "mpp": 0.5, "empty": None})
    found = {one.field: one for one in associate(real, fake)}
    assert set(found) == {"codec", "generator", "mpp"}
    assert (found["codec"].v, found["codec"].role, found["codec"].fake) == (1.0, Role.HISTORY, "not told (100 %)")
    assert (found["mpp"].v, found["mpp"].p, found["mpp"].role) == (0.0, 1.0, Role.SCALE)
    assert found["generator"].role is Role.ORIGIN
    assert next(iter(found)) == "codec"
