"""The command group: train, sample, info, list, and one sentence for each mistake."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch._inductor import config as inductor
from typer.testing import CliRunner

from histoforensics.cli import app
from histoforensics.generators import FAMILIES, CropSource, TrainConfig, features, fit, load_generator, pack, zoo
from histoforensics.generators.data import Picture
from histoforensics.slides import PatchSet


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()

    def invoke(*arguments):
        return runner.invoke(app, ["generators", *map(str, arguments)])

    return invoke


@pytest.fixture
def images(tmp_path):
    """A folder of two images of 80 x 90 px."""
    folder, rng = tmp_path / "images", np.random.default_rng(0)
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 256, (80, 90, 3)).astype(np.uint8)).save(folder / name)
    return folder


@pytest.fixture
def trained(tmp_path):
    """A tiny generator in runs/tiny."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    data = CropSource([Picture("noise", 40, 40, lambda: pixels)], 16, digest="d", mpp=0.5, origin="noise")
    network = FAMILIES["stylegan2"].config(resolution=16, z_dim=8, w_dim=8, fmap_base=64, fmap_max=8, mapping_layers=2)
    config = TrainConfig(family="stylegan2", network=network, batch=4, kimg=0.008, grid_side=1)
    fit(data, config, tmp_path / "runs/tiny")
    return tmp_path / "runs/tiny"


def test_training_writes_a_run_under_runs_and_goes_on_when_run_again(run, images, tmp_path):
    arguments = ("train", "stylegan2", "--data", images, "--resolution", 16, "--kimg", 0.016)
    first = run(*arguments)
    assert first.exit_code == 0, first.output
    assert "complete" in first.output
    again = run(*arguments[:-1], 0.032)
    assert again.exit_code == 0, again.output
    log = (tmp_path / "runs/stylegan2/log.jsonl").read_text().splitlines()
    assert [json.loads(line)["images"] for line in log] == [8, 16, 24, 32]  # saved at least five times in a run


def test_a_dry_run_prints_settings_and_data_and_writes_nothing(run, images, tmp_path):
    result = run("train", "pathologygan", "--data", images, "--resolution", 28, "--dry-run")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["config"]["network"]["resolution"] == 28
    assert printed["data"]["pictures"] == 2
    assert not (tmp_path / "runs").exists()


def test_adaptive_augmentation_and_shares_of_a_batch_are_settings_of_the_run(run, images):
    options = ("--data", images, "--resolution", 16, "--dry-run")
    config = json.loads(run("train", "stylegan2", *options, "--ada", "--processes", 2).stdout)["config"]
    assert (config["ada_target"], config["micro_batch"]) == (0.6, 4)
    plain = json.loads(run("train", "stylegan2", *options).stdout)["config"]
    assert (plain["ada_target"], plain["micro_batch"]) == (None, None)


def test_compiling_is_a_setting_of_the_run_and_refused_at_once_without_a_compiler(run, images, tmp_path, monkeypatch):
    options = ("--data", images, "--resolution", 16)
    assert not json.loads(run("train", "stylegan2", *options, "--dry-run").stdout)["config"]["compile"]
    assert json.loads(run("train", "stylegan2", *options, "--dry-run", "--compile").stdout)["config"]["compile"]
    with inductor.patch({"cpp.cxx": (str(tmp_path / "no-compiler"),)}):
        result = run("train", "stylegan2", *options, "--compile")
    assert result.exit_code == 1
    assert "on cpu it needs a C++ compiler such as g++" in " ".join(result.output.split())
    assert not (tmp_path / "runs").exists()


def test_processes_that_cannot_share_a_batch_are_refused_in_one_sentence(run, images):
    result = run("train", "stylegan2", "--data", images, "--resolution", 16, "--processes", 3)
    assert result.exit_code == 1
    assert "processes must be a divisor of the batch, 8, got 3" in result.output


def test_the_paper_preset_prints_stated_and_effective_settings(run, images):
    result = run("train", "stylegan", "--data", images, "--preset", "paper", "--resolution", 64, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "minibatch" in result.stdout
    assert "overrides" in result.stdout


def test_sampling_by_name_writes_exactly_that_many_labelled_fakes(run, trained, tmp_path):
    result = run("sample", "tiny", "--count", 5, "--out", "fakes", "--seed", 3, "--psi", 0.7, "--noise", "const")
    assert result.exit_code == 0, result.output
    patches = PatchSet.open(tmp_path / "fakes")
    assert len(patches) == len(list((tmp_path / "fakes").rglob("*.png"))) == 5
    assert set(patches.table["label"]) == {"fake"}
    assert set(patches.table["noise_mode"]) == {"const"}


@pytest.fixture
def shipped(trained, tmp_path, monkeypatch):
    """A zoo that holds the tiny generator as its StyleGAN2."""
    evaluation = {
        "kid": {"fake_to_training": {"mean": 0.3}, "training_to_other": {"mean": 0.1}, "ratio": 3.0,
                "ratio_to": "training_to_other"},
    }  # fmt: skip
    pack(trained, tmp_path / "zoo/stylegan2", judge=lambda _: evaluation, faults=["Nuclei are smudged."])
    monkeypatch.setattr(zoo, "ZOO_ROOT", tmp_path / "zoo")
    return tmp_path / "zoo"


@pytest.fixture
def quick_features(monkeypatch):
    """The mean colour in place of the default features."""

    class Mean:
        name, dimensions, resize = "mean", 3, "none"

        def features(self, pixels, batch=64):
            return pixels.mean((1, 2)).astype(np.float32) / 255

    monkeypatch.setattr(features, "FEATURES", {features.DEFAULT_FEATURES: Mean})


def test_a_shipped_generator_is_sampled_by_its_name(run, shipped, tmp_path):
    result = run("sample", "stylegan2", "--count", 3, "--out", "fakes")
    assert result.exit_code == 0, result.output
    assert "by the shipped stylegan2" in " ".join(result.stdout.split())
    assert len(list((tmp_path / "fakes").rglob("*.png"))) == 3
    missing = run("sample", "pathologygan", "--out", "none")
    assert missing.exit_code == 1
    assert "the shipped pathologygan is missing from this installation" in " ".join(missing.stderr.split())


def test_a_run_goes_before_a_shipped_generator_of_its_name_and_is_named(run, shipped, trained, tmp_path):
    trained.rename(trained.parent / "stylegan2")
    result = run("sample", "stylegan2", "--count", 1, "--out", "fakes")
    assert "by runs/stylegan2" in " ".join(result.stdout.split())


def test_the_list_shows_the_cards_of_the_shipped_ones(run, shipped):
    printed = " ".join(run("list").stdout.split())
    assert "0.3000 (0.1000)" in printed
    assert "stylegan2: Nuclei are smudged." in printed
    assert "stylegan2, licence: Apache-2.0" in printed
    assert "Not in this installation: stylegan, pathologygan." in printed
    cards = json.loads(run("list", "--json").stdout)["shipped"]
    assert list(cards) == ["stylegan2"]
    assert cards["stylegan2"]["evaluation"]["kid"]["ratio"] == 3.0


def test_evaluating_prints_a_table_and_writes_figures(run, shipped, images, quick_features, tmp_path):
    result = run("evaluate", "stylegan2", "--data", images, "--count", 20, "--out", "found")
    assert result.exit_code == 0, result.output
    printed = " ".join(result.stdout.split())
    assert "KID ratio" in printed
    assert "Features: mean" in printed
    assert "these are not the data that the generator was trained on" in printed
    assert (tmp_path / "found/results.json").is_file()
    again = run("evaluate", "tiny", "--data", images, "--count", 20, "--out", "found", "--overwrite", "--json")
    assert json.loads(again.stdout)["count"]["fake"] == 20
    full = run("evaluate", "tiny", "--data", images, "--count", 20, "--out", "found")
    assert full.exit_code == 1
    assert "the folder is not empty" in " ".join(full.stderr.split())


def test_packing_measures_what_is_packed_and_training_does_not_touch_it(run, trained, images, quick_features, tmp_path):
    result = run(
        "pack", "tiny", "--out", "packed", "--data", images, "--count", 20, "--fault", "No nuclei.", "--made-by", "me",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    card = json.loads((tmp_path / "packed/card.json").read_text())
    assert card["evaluation"]["generator"]["sha256"] == card["sha256"]
    assert (card["faults"], card["commands"]) == (["No nuclei."], ["me"])
    before = (tmp_path / "packed/generator.safetensors").read_bytes()
    refused = run("train", "stylegan2", "--data", images, "--resolution", 16, "--kimg", 0.016, "--out", "packed")
    assert refused.exit_code == 1
    assert "packed holds a generator and no state to go on from" in " ".join(refused.stderr.split())
    assert (tmp_path / "packed/generator.safetensors").read_bytes() == before


def test_the_list_names_families_and_runs(run, trained):
    assert "No generator" in run("list", "--runs", "nowhere").stdout
    result = run("list", "--json")
    found = json.loads(result.stdout)
    assert found["families"] == ["stylegan", "stylegan2", "pathologygan"]
    assert [(one["name"], one["kimg"], one["px"]) for one in found["generators"]] == [("tiny", 0.008, 16)]
    assert "tiny" in run("list").stdout


def test_info_counts_the_published_parameters(run):
    result = run("info", "stylegan2", "--json")
    found = json.loads(result.stdout)
    assert found["generator"]["parameters"] == 30_034_338
    assert found["discriminator"]["parameters"] == 28_864_129


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("train", "stylegan2", "--data", "nowhere"), "nowhere"),
        (("train", "stylegan2", "--data", "images", "--resolution", 100), "resolution must be a power of two"),
        (("train", "stylegan2", "--data", "images", "--resolution", 16, "--kimg", 0), "kimg must be above 0"),
        (("train", "stylegan2", "--data", "images"), "the network needs crops of 128 px"),
        (("sample", "nobody", "--out", "fakes"), "nobody holds no generator"),
        (("evaluate", "tiny", "--data", "images", "--out", "fakes", "--count", 3), "count must be at least 20"),
        (("evaluate", "tiny", "--data", "images", "--out", "fakes", "--features", "fid"), "features must be one of"),
        (("pack", "nobody", "--out", "fakes"), "nobody holds no generator"),
        (("sample", "tiny", "--out", "fakes", "--psi", 2), "psi must be from 0 to 1"),
        (("sample", "tiny", "--out", "fakes", "--count", 0), "count must be at least 1"),
    ],
)
def test_a_mistake_ends_in_one_sentence_and_exit_code_1(run, images, trained, tmp_path, arguments, sentence):
    result = run(*arguments)
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert not (tmp_path / "fakes").exists()


def test_help_shows_an_example(run):
    for command in ("train", "sample", "evaluate", "pack", "info", "import", "export", "list"):
        assert "Example: histoforensics generators" in run(command, "--help").stdout.replace("\n", " ").replace(
            "  ", " "
        )


def test_a_foreign_checkpoint_is_imported_listed_sampled_and_exported(run, trained, tmp_path):
    G = load_generator(trained).module.state_dict()
    names = {
        "conv1": "synthesis.blocks.0.conv",
        "convs.0": "synthesis.blocks.1.up",
        "convs.1": "synthesis.blocks.1.conv",
    }
    names |= {"convs.2": "synthesis.blocks.2.up", "convs.3": "synthesis.blocks.2.conv"}
    theirs = {"input.input": G["synthesis.const.value"]}
    for i in range(2):
        theirs |= {f"style.{i + 1}.{leaf}": G[f"mapping.layers.{i}.{leaf}"] for leaf in ("weight", "bias")}
    for i, (name, ours) in enumerate(names.items()):
        theirs |= {f"{name}.noise.weight": G[f"{ours}.noise_strength"], f"{name}.activate.bias": G[f"{ours}.bias"]}
        theirs[f"noises.noise_{i}"] = G[f"{ours}.noise_const"]
    for k, name in enumerate(("to_rgb1", "to_rgbs.0", "to_rgbs.1")):
        names[name] = f"synthesis.blocks.{k}.to_rgb"
        theirs[f"{name}.bias"] = G[f"{names[name]}.bias"]
    for name, ours in names.items():
        theirs[f"{name}.conv.weight"] = G[f"{ours}.conv.weight"][None]
        theirs |= {f"{name}.conv.modulation.{leaf}": G[f"{ours}.conv.affine.{leaf}"] for leaf in ("weight", "bias")}
    torch.save({"g_ema": theirs, "latent_avg": G["w_avg"]}, tmp_path / "theirs.pt")
    result = run("import", "theirs.pt")
    assert result.exit_code == 0, result.output
    printed = " ".join(result.stdout.split())
    assert "theirs.pt, of rosinality, is in theirs." in printed
    assert "Not imported: the discriminator: the file has none." in printed
    assert "non-commercial" in printed
    assert "unknown" in run("list").stdout
    for name in ("tiny", "theirs"):
        run("sample", name, "--count", 2, "--out", f"fakes-{name}", "--noise", "const")
    ours, again = (PatchSet.open(tmp_path / f"fakes-{name}").pixels() for name in ("tiny", "theirs"))
    assert np.array_equal(ours, again)
    result = run("export", "tiny", "--out", "back.safetensors")
    assert "G_ema and D under the names of stylegan2-ada-pytorch in back.safetensors." in " ".join(
        result.stdout.split()
    )
    back = load_file(tmp_path / "back.safetensors")
    assert torch.equal(back["G_ema.synthesis.b8.conv0.weight"], G["synthesis.blocks.1.up.conv.weight"])


def test_a_file_that_would_run_something_is_refused(run, tmp_path):
    (tmp_path / "evil.pkl").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    result = run("import", "evil.pkl", "--out", "out")
    assert result.exit_code == 1
    assert "evil.pkl asks for os.system" in " ".join(result.stderr.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.pkl"]
