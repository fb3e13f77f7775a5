"""Studies as files: what they say, what they may not say, and what comes before them."""

import pytest

from histoforensics.benchmarks.config import BRIEF_SECONDS, BenchmarkConfig
from histoforensics.benchmarks.splits import SplitRule
from histoforensics.benchmarks.studyfile import DEFAULT, DEFAULT_KERNELS, read_study, shipped_studies
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
    assert set(shipped_studies()) == {"alrasheed2020", "glas", "sample-slide"}


def test_splits_perturbations_and_seeds_are_keys_of_a_study(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_OF_MINE", str(tmp_path / "data"))
    path = write(
        tmp_path,
        """
        [real]
        paths = ["$DATA_OF_MINE/images"]
        [splits]
        by = "patient"
        table = "$DATA_OF_MINE/patients.csv"
        train = ["a", "b"]
        calibration = ["c"]
        exam = ["d"]
        [detectors]
        names = ["wht-lr", "npr"]
        seeds = [0, 1, 2]
        [perturbations]
        jpeg = [70, 90]
        "crop phase" = [3]
        """,
    )
    study = read_study(path)
    assert study.real == (tmp_path / "data" / "images",)
    assert study.splits == SplitRule(
        by="patient", table=tmp_path / "data" / "patients.csv", train=("a", "b"), calibration=("c",), exam=("d",)
    )
    assert study.cnn_seeds == (0, 1, 2)
    assert [(one.name, one.severities) for one in study.curves] == [("jpeg", (70, 90)), ("crop phase", (3,))]


def test_a_study_without_perturbations_measures_all_and_one_with_an_empty_table_none(tmp_path):
    assert read_study(write(tmp_path, "seed = 1")).curves is None
    assert read_study(write(tmp_path, "[perturbations]")).curves == ()


def test_the_study_of_colon_says_who_may_not_see_it_and_wants_its_folder_named(monkeypatch):
    monkeypatch.delenv("HISTOFORENSICS_DATA", raising=False)
    with pytest.raises(ConfigError, match=r"glas\.toml: the environment variable HISTOFORENSICS_DATA is not set; \$"):
        read_study("glas")
    monkeypatch.setenv("HISTOFORENSICS_DATA", "/data")
    study = read_study("glas")
    assert "research use only" in study.terms
    assert (study.splits.by, len(study.splits.exam), study.mpp) == ("patient", 4, 0.62)
    assert (study.stand_ins, study.beside) == (
        ("bilinear", "nearest", "transposed", "lanczos"), ("stylegan", "stylegan2", "pathologygan")
    )  # fmt: skip


def test_stand_ins_have_kernels_and_stand_alone(tmp_path):
    assert read_study(write(tmp_path, "[generators]\nsource = 'stand-ins'")).stand_ins == DEFAULT_KERNELS
    with pytest.raises(ConfigError, match="stand_ins must be the only fakes of a run, got 'fake'"):
        read_study(write(tmp_path, "[generators]\nsource = 'stand-ins'\n[fake]\nG = 'fakes'"))


def test_a_fusion_stacks_the_frequency_detectors_of_its_study(tmp_path):
    study = read_study(write(tmp_path, "[detectors]\nnames = ['wht-lr', 'fusion', 'npr', 'radial-lr']"))
    assert study.fused == ("radial-lr", "wht-lr")


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
        ("[splits]\nfrom = 1", r"mine.toml: a study has no key splits.from; here it has by, table, train, calibration"),
        ("[splits]\nby = 1", r"mine.toml: splits.by must be a text, got 1\."),
        ("[splits]\ntrain = true", r"mine.toml: splits.train must be a share or a list of names, got True\."),
        ("[splits]\ntrain = [1]", r"mine.toml: splits.train must be a text, got 1\."),
        ("[splits]\ntrain = 0.5", r"splits must be three shares or three lists of names"),
        ("[perturbations]\njpeg = 70", r"mine.toml: perturbations.jpeg must be a list of numbers, got 70\."),
        ("[perturbations]\njpeg = []", r"perturbations of jpeg must be one or more different whole numbers from 1 to "),
        (
            "[perturbations]\njpeg = [70.5]",
            r"perturbations of jpeg must be .* whole numbers from 1 to 100, got 70\.5\.",
        ),
        ("[perturbations]\nresize = [1]", r"perturbations of resize must be .* 0\.25 to 4 without 1, got 1\.0\."),
        ("[perturbations]\nblur = [2, 2]", r"perturbations of blur must be one or more different numbers .* got \[2"),
        ("[perturbations]\nrotation = [1]", r"perturbation must be one of jpeg, blur, .*, got 'rotation'\."),
        ("[detectors]\nseeds = ['a']", r"mine.toml: detectors.seeds must be a list of whole numbers, got \['a'\]\."),
        ("[detectors]\nseeds = [1, 1]", r"cnn_seeds must be different numbers, got \(1, 1\)\."),
        ("[detectors]\nseeds = [-1]", r"cnn_seeds must be numbers of 0 or more, got \(-1,\)\."),
        (
            "[detectors]\nnames = ['fusion', 'wht-lr']",
            r"detectors must be two or more of radial-lr, dct-ridge, wht-lr ",
        ),
        ("[real]\npaths = ['$NOWHERE_AT_ALL/a']", r"mine.toml: the environment variable NOWHERE_AT_ALL is not set"),
        ("[real]\npaths = [1]", r"mine.toml: real.paths must be a list of texts, got \[1\]\."),
        ("[generators]\nsource = 'hub'", r"mine.toml: generators.source must be zoo, train, stand-ins, got 'hub'\."),
        ("[generators]\nkernels = ['nearest']", r"mine.toml: generators.kernels go with .*stand-ins\", got None\."),
        (
            "[generators]\nsource = 'stand-ins'\nkernels = ['magic']",
            r"stand_ins must be kernels of bilinear, .*'magic'",
        ),
        ("[beside]\nfamilies = ['gan']", r"beside must be of stylegan, stylegan2, pathologygan, got 'gan'"),
        ("[fake]\nG = 1", r"mine.toml: fake.G must be the path of a folder or checkpoint, got 1\."),
        ("x = [", r"mine.toml: not a readable TOML file"),
    ],
)
def test_what_a_study_may_not_say_is_told_in_one_sentence(tmp_path, text, told):
    with pytest.raises(ConfigError, match=told):
        read_study(write(tmp_path, text))


def test_an_unknown_study_is_told_which_are_shipped():
    with pytest.raises(
        ConfigError, match=r"nowhere: no such study; give a TOML file or one of alrasheed2020, glas, sample"
    ):
        read_study("nowhere")
