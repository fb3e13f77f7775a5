"""Published counts, marks turned into readers, and unpaired comparison."""

from __future__ import annotations

import pytest

from histoforensics.benchmarks.confusion import ConfusionTable, Counts
from histoforensics.benchmarks.readers import ALRASHEED_2020, PUBLISHED, Reader, ReaderKind, versus
from histoforensics.slides import ExamError


def _reader(name: str, right_real: int, right_fake: int) -> Reader:
    table = ConfusionTable(
        real=Counts(real=right_real, fake=30 - right_real), fake=Counts(fake=right_fake, real=30 - right_fake)
    )
    return Reader(name=name, kind=ReaderKind.DETECTOR, table=table)


def test_the_pathologist_of_2020_comes_first_with_her_published_numbers():
    row = PUBLISHED[0].to_json()
    assert row["kind"] == "human"
    assert row["table"] == {
        "real": {"real": 17, "fake": 13, "unsure": 0},
        "fake": {"real": 10, "fake": 17, "unsure": 3},
    }
    assert row["accuracy"] == pytest.approx(0.567, abs=5e-4)
    assert row["wilson95"] == pytest.approx([0.441, 0.684], abs=5e-4)
    assert row["p_chance"] == pytest.approx(0.366, abs=5e-4)
    assert not row["same_exam"]


def test_her_rows_by_generator_are_table_ii():
    rows = {name: row.to_json() for name, row in ALRASHEED_2020.by_generator.items()}
    assert rows == {
        "StyleGAN": {"real": 4, "fake": 6, "unsure": 0},
        "StyleGAN2": {"real": 6, "fake": 3, "unsure": 1},
        "PathologyGAN": {"real": 0, "fake": 8, "unsure": 2},
    }


def test_marks_become_a_table_overall_and_by_generator():
    reader = Reader.of_marks(
        "npr",
        ReaderKind.DETECTOR,
        truths=["real", "fake", "fake", "fake"],
        generators=[None, "StyleGAN", "StyleGAN", "PathologyGAN"],
        verdicts=["unsure", "fake", "real", "fake"],
    )
    assert reader.table.to_json() == {
        "real": {"real": 0, "fake": 0, "unsure": 1},
        "fake": {"real": 1, "fake": 2, "unsure": 0},
    }
    assert reader.to_json()["by_generator"]["StyleGAN"]["accuracy"] == 0.5
    assert reader.to_json()["accuracy"] == 0.5


def test_rows_that_do_not_add_up_are_refused():
    with pytest.raises(ExamError, match=r"npr: the rows by generator add up to .* but the row of all fakes is"):
        Reader(
            name="npr",
            kind=ReaderKind.DETECTOR,
            table=ConfusionTable(real=Counts(), fake=Counts(fake=2)),
            by_generator={"StyleGAN": Counts(fake=1)},
        )


def test_a_fake_without_a_generator_is_refused():
    with pytest.raises(ExamError, match="npr: 1 fake patches have no generator in the answer key"):
        Reader.of_marks("npr", ReaderKind.DETECTOR, ["fake"], [None], ["fake"])


def test_versus_is_unpaired_and_adjusted():
    rows = versus([_reader("perfect", 30, 30), _reader("fair", 23, 23), _reader("same", 17, 17)], ALRASHEED_2020)
    assert rows["perfect"]["fisher_p"] == pytest.approx(9.2e-10, rel=5e-3)
    assert rows["fair"]["fisher_p"] == pytest.approx(0.0325, abs=5e-4)
    assert rows["fair"]["fisher_p_holm"] == pytest.approx(2 * 0.0325, abs=1e-3)
    assert rows["same"]["difference"] == 0
    low, high = rows["perfect"]["newcombe95"]
    assert 0.25 < low < 26 / 60 < high < 0.6
    assert "other patches" in rows["perfect"]["caption"]
