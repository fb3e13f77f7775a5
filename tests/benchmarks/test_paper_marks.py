"""Marks typed off the paper form."""

from __future__ import annotations

import shutil

import pytest
from typer.testing import CliRunner

from histoforensics.benchmarks.answers import Answers
from histoforensics.benchmarks.human_marks import human_marks
from histoforensics.benchmarks.paper_marks import import_marks, read_marks
from histoforensics.benchmarks.study import Study
from histoforensics.cli import app
from histoforensics.slides import ExamError

HEAD = "patch,verdict,confidence,reasons,note\n"


@pytest.fixture
def study(tmp_path, study_root):
    shutil.copytree(study_root, tmp_path / "exam", ignore=shutil.ignore_patterns("room"))
    return Study.open(tmp_path / "exam")


@pytest.fixture
def table(tmp_path):
    def write(text):
        (tmp_path / "marks.csv").write_text(text, "utf-8")
        return tmp_path / "marks.csv"

    return write


def test_letters_ids_and_initials_are_understood(study, table):
    path = table(HEAD + '1,fake,6,a c,"odd, really"\n2,R,,,\n3,u,1,"j;cell-size",\n4,,,,\n')
    marks = read_marks(path, study)
    assert sorted(marks) == [1, 2, 3]
    assert (marks[1].verdict, marks[1].confidence, marks[1].note) == ("fake", 6, "odd, really")
    assert marks[1].reasons == ("cell-size", "nuclear-shape")
    assert (marks[2].verdict, marks[3].verdict) == ("real", "unsure")
    assert marks[3].reasons == ("pleomorphism", "cell-size")


def test_a_table_from_a_spreadsheet_with_semicolons_and_a_mark_is_understood(study, table):
    path = table("\ufeff" + "patch;verdict;confidence;reasons;note\n20;fake;2;a,b;x\n")
    assert read_marks(path, study)[20].reasons == ("cell-size", "nuclear-lobulation")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("patch,answer\n1,real\n", "lacks the column verdict; start from marks_template.csv"),
        (HEAD + "21,real,,,\n", "line 2: patch must be from 1 to 20, got '21'"),
        (HEAD + "1,real,,,\n1,fake,,,\n", "line 3: patch 1 is marked twice"),
        (HEAD + "1,maybe,,,\n", "line 2: An answer is one of real, fake, unsure, got 'maybe'"),
        (HEAD + "1,real,9,,\n", "line 2: Confidence is from 1 to 6, got 9"),
        (HEAD + "1,real,high,,\n", "line 2: confidence is a number from 1 to 6, got 'high'"),
        (HEAD + "1,real,,zz,\n", "line 2: 'zz' is not among the reasons"),
        (HEAD + "1,,,,\n", "no patch is marked"),
    ],
)
def test_what_the_form_cannot_give_is_refused_by_its_line_and_nothing_is_added(study, table, text, sentence):
    answers = Answers(study.root, study.digest)
    with pytest.raises(ExamError, match=sentence):
        import_marks(study, answers, table(text), role="Student", years=1)
    assert answers.people() == []
    answers.close()


def test_the_command_adds_a_reader_in_the_exams_own_order(study, table):
    truth = list(study.exam.key["truth"])
    path = table(HEAD + "".join(f"{number},{kind},,,\n" for number, kind in enumerate(truth, 1)))
    done = CliRunner().invoke(
        app, ["exam", "import", str(study.root), str(path), "--role", "Pathologist", "--years", "12"]
    )
    assert done.exit_code == 0, done.output
    assert "20 of 20 patches marked by reader R01." in done.output
    answers = Answers(study.root, study.digest)
    (marks,) = human_marks(study, answers)
    answers.close()
    assert list(marks.verdicts) == truth
    assert marks.reader(study).table.accuracy() == 1.0
    assert marks.person.seed is None
