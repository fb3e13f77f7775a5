import xml.etree.ElementTree as ET

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from histoforensics.forensics.effects import COLUMNS, effect_sizes, effects_by_reason
from histoforensics.forensics.effects_figure import effects_figure
from histoforensics.forensics.morphology import FEATURES, NAMES, REASONS
from histoforensics.slides import PatchError

D = len(FEATURES)
LOBED = NAMES.index("lobulation")


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    real, same, lobed = rng.normal(size=(60, D)), rng.normal(size=(40, D)), rng.normal(size=(40, D))
    lobed[:, LOBED] += 2
    real[3:, NAMES.index("red_cell_roundness")] = np.nan
    return effect_sizes(real, {"same": same, "lobed": lobed}, n_boot=1000), real, lobed


def one(table, generator, feature):
    return table[(table["generator"] == generator) & (table["feature"] == feature)].iloc[0]


def test_delta_is_what_mann_whitney_gives(table):
    row = one(table[0], "lobed", "lobulation")
    u = stats.mannwhitneyu(table[2][:, LOBED], table[1][:, LOBED]).statistic
    assert row["delta"] == pytest.approx(2 * u / (60 * 40) - 1)
    # and near what two normals two deviations apart have
    assert row["delta"] == pytest.approx(2 * stats.norm.cdf(np.sqrt(2)) - 1, abs=0.1)
    assert row["low"] < row["delta"] < row["high"] <= 1


def test_only_what_differs_is_said_to_differ(table):
    found = table[0][table[0]["p_holm"] < 0.05]
    assert found[["generator", "feature"]].to_numpy().tolist() == [["lobed", "lobulation"]]


def test_holm_is_over_the_whole_table_and_leaves_out_what_was_not_measured(table):
    known = table[0].dropna(subset="p")
    assert len(known) == 2 * D - 2
    assert known["p_holm"].to_numpy() == pytest.approx(multipletests(known["p"], method="holm")[1])


def test_a_feature_that_three_real_patches_have_is_counted_and_not_judged(table):
    row = one(table[0], "same", "red_cell_roundness")
    assert row[["delta", "low", "high", "p", "p_holm"]].isna().all()
    assert (row["n_real"], row["n_fake"]) == (3, 40)
    assert row["share_real"] == pytest.approx(3 / 60)


def test_patches_of_one_slide_widen_the_interval():
    rng = np.random.default_rng(1)
    slide = np.repeat(np.arange(8), 10)
    real, fake = rng.normal(size=(8, D))[slide] + 0.1 * rng.normal(size=(80, D)), rng.normal(size=(80, D))
    loose, tight = (
        effect_sizes(real, {"g": fake}, real_groups=groups, n_boot=200)[["low", "high"]].to_numpy()
        for groups in (slide, None)
    )
    assert (np.diff(loose) > 1.3 * np.diff(tight)).mean() > 0.8


def test_the_list_of_the_pathologist_stands_beside_what_differs(table):
    beside = effects_by_reason(table[0]).set_index("reason")
    assert beside["text"].to_dict() == REASONS
    assert beside.loc["nuclear-lobulation", "lobed"].startswith("lobulation +0.")
    assert beside.loc["nuclear-lobulation", "same"] == "no difference seen"
    assert beside.loc["red-cells", "same"] == "not measured"


def test_the_figure_is_svg_with_text_for_every_reason_and_generator_and_the_same_twice(table):
    drawn = effects_figure(table[0])
    text = "".join(ET.fromstring(drawn.decode()).itertext())
    for word in (*REASONS.values(), "lobed: in too few patches", "same", "lobulation"):
        assert word in text
    assert effects_figure(table[0]) == drawn


def test_columns_are_there_even_without_a_generator_and_no_figure_is():
    empty = effect_sizes(np.zeros((5, D)), {})
    assert tuple(empty.columns) == COLUMNS
    with pytest.raises(PatchError, match="at least one generator"):
        effects_figure(empty)


def test_features_of_another_width_are_refused():
    with pytest.raises(PatchError, match=rf"gan: features must be \(n, {D}\) with n above 0, got \(4, 3\)"):
        effect_sizes(np.zeros((5, D)), {"gan": np.zeros((4, 3))})
