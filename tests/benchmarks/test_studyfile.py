"""Studies as files: what they say, what they may not say, and what comes before them."""

import pytest

from histoforensics.benchmarks.config import BRIEF_SECONDS, BenchmarkConfig
from histoforensics.benchmarks.studyfile import DEFAULT, read_study, shipped_studies
from histoforensics.slides import ConfigError


def write(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


def test_the_shipped_default_says_what_a_run_without_a_study_does():
    shipped = read_study(DEFAULT, title="")
    assert shipped == BenchmarkConfig(seed=0)


def test_the_study_of_2020_is_its_three_slides_at_full_size():
    study = read_study("alrasheed2020", device="cpu")
    assert [path.parent.name for path in study.real] == ["slides"] * 3
    assert (study.train_generators, study.generator_preset, study.training_seconds) == (True, "paper", None)
    assert (study.patch_px, study.exam_size, len(study.families)) == (224, 30, 3)


def test_every_shipped_study_is_found_by_name():
    assert set(shipped_studies()) == {"alrasheed2020", "sample-slide"}


def test_paths_are_relative_to_the_file_and_options_come_first(tmp_path):
    path = write(tmp_path, 'seed = 3\n[real]\npaths = ["a.svs"]\nmpp = 1\n[fake]\nG = "fakes"\n')
    study = read_study(path, seed=5)
    assert (study.real, dict(study.fake)) == ((tmp_path / "a.svs",), {"G": tmp_path / "fakes"})
    assert (study.seed, study.mpp) == (5, 1.0)


def test_compact_generators_train_for_minutes_unless_told_otherwise():
    assert BenchmarkConfig().training_seconds == BRIEF_SECONDS
    assert BenchmarkConfig(generator_seconds=7.0).training_seconds == 7.0
    assert BenchmarkConfig(generator_kimg=2.0).training_seconds is None
    assert BenchmarkConfig(generator_preset="paper").training_seconds is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sead = 1", r"mine.toml: a study has no key sead; here it has title, seed\."),
        ("[exam]\nsize = 'x'", r"mine.toml: exam.size must be a number, got 'x'\."),
        ("[exam]\nsize = true", r"mine.toml: exam.size must be a number, got True\."),
        ("[readers]\nn = 1", r"mine.toml: a study has no table \[readers\]; it has real, generators, .*fake\."),
        ("[real]\npaths = [1]", r"mine.toml: real.paths must be a list of texts, got \[1\]\."),
        ("[generators]\nsource = 'hub'", r"mine.toml: generators.source must be zoo or train, got 'hub'\."),
        ("[fake]\nG = 1", r"mine.toml: fake.G must be the path of a folder or checkpoint, got 1\."),
        ("x = [", r"mine.toml: not a readable TOML file"),
    ],
)
def test_what_a_study_may_not_say_is_told_in_one_sentence(tmp_path, text, told):
    with pytest.raises(ConfigError, match=told):
        read_study(write(tmp_path, text))


def test_an_unknown_study_is_told_which_are_shipped():
    with pytest.raises(ConfigError, match=r"nowhere: no such study; give a TOML file or one of alrasheed2020, sample"):
        read_study("nowhere")
