"""Packing: half precision, the model card, the command that made it, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from histoforensics import generators
from histoforensics.generators import FAMILIES, fit, load_generator, pack, packing, preset, sample
from histoforensics.generators.checkpoints import save_generator
from histoforensics.generators.packing import half_precision, made_by
from histoforensics.slides import CheckpointError, ConfigError


@pytest.fixture
def run(tiny_config, pictures, tmp_path):
    """The folder of a tiny run of a family."""

    def make(family="stylegan2"):
        config = tiny_config(family)
        fit(pictures(config.resolution), config, tmp_path / family)
        return tmp_path / family

    return make


@pytest.mark.parametrize("family", ["stylegan", "stylegan2", "pathologygan"])
def test_a_packed_generator_has_the_same_weights_in_half_the_bytes(family, run, tmp_path):
    folder = run(family)
    card = pack(folder, tmp_path / "out")
    stored = load_file(tmp_path / "out/generator.safetensors")
    assert {tensor.dtype for tensor in stored.values() if tensor.is_floating_point()} == {torch.float16}
    packed, before = load_generator(tmp_path / "out"), load_generator(folder)
    assert {p.dtype for p in packed.module.parameters()} == {torch.float32}
    for name, weight in before.module.state_dict().items():  # half precision rounds to 11 bits, or to 2^-25 near zero
        error = (packed.module.state_dict()[name] - weight).abs()
        assert bool((error <= weight.abs() * 2**-11 + 2**-25).all()), name
    images = np.concatenate(list(sample(packed, 4)))
    assert images.shape == (4, packed.config.resolution, packed.config.resolution, 3)
    assert packed.card["seconds"] == before.card["seconds"] >= 0
    assert card["sha256"] == packed.sha256
    written = json.loads((tmp_path / "out/card.json").read_text())
    assert (written["family"], written["kimg"], written["mpp"], written["data"]["origin"]) == (
        family, before.card["images"] / 1000, 0.5, "noise",
    )  # fmt: skip
    side = 8 * packed.config.resolution
    with Image.open(tmp_path / "out/samples.png") as samples:
        assert samples.size == (side, side)


def test_the_card_carries_what_the_judge_and_the_packer_say(run, tmp_path):
    seen = []

    def judge(generator):
        seen.append(generator)
        return {"kid": 0.1}

    pack(run(), tmp_path / "out", judge=judge, faults=["nuclei without chromatin."], commands=["x"], data_note="CC0")
    card = json.loads((tmp_path / "out/card.json").read_text())
    assert card["evaluation"] == {"kid": 0.1}
    assert card["faults"] == ["nuclei without chromatin."]
    assert (card["commands"], card["data_note"]) == (["x"], "CC0")
    assert (seen[0].name, seen[0].sha256) == ("stylegan2", card["sha256"])


def test_the_card_of_a_run_of_no_preset_tells_python_that_trains_it_again(run, tmp_path, monkeypatch):
    folder = run("stylegan")
    pack(folder, tmp_path / "out")
    (told,) = json.loads((tmp_path / "out/card.json").read_text())["commands"]
    calls = []
    monkeypatch.setattr(generators, "fit", lambda data, config, out: calls.append((data, config, out)))
    monkeypatch.setattr(generators, "open_source", lambda paths, px: (paths, px))
    monkeypatch.chdir(tmp_path / "out")
    exec(told.removeprefix('python -c "').removesuffix('"'))
    before = load_generator(folder)
    trained = replace(before.config, kimg=before.card["images"] / 1000)
    assert calls == [((["noise"], 16), trained, "runs/stylegan")]


def test_the_command_is_told_where_the_settings_are_a_presets(run):
    loaded = load_generator(run())
    config = preset("stylegan", "zoo", kimg=400, seed=7, snapshot_kimg=1.0)
    early = replace(loaded, config=config, card={"images": 15_000, "data": {"origin": "slide.svs"}})
    assert made_by(early) == [
        "histoforensics generators train stylegan --data slide.svs --preset zoo --resolution 128 --kimg 15 --seed 7"
    ]


def test_numbers_beyond_half_precision_are_refused_by_tensor():
    with pytest.raises(CheckpointError, match="net: the tensor 'b' holds a number that half precision cannot"):
        half_precision({"a": torch.ones(2), "b": torch.full((2,), 1e6)}, "net")
    assert half_precision({"n": torch.arange(3)}, "net")["n"].dtype == torch.int64


def test_more_than_is_shipped_is_refused_and_nothing_is_written(run, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "MAX_BYTES", 1000)
    with pytest.raises(CheckpointError, match=r"stylegan2 takes .+ MB in half precision"):
        pack(run(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_imported_generator_is_not_packed(tiny_config, tmp_path):
    config = tiny_config("stylegan2")
    G, _ = FAMILIES["stylegan2"].build(config.network, seed=0)
    save_generator(tmp_path / "theirs", G, config, {"images": None, "lod": 0.0, "data": {"origin": "unknown"}})
    with pytest.raises(CheckpointError, match="theirs was imported, and its author's terms are unknown"):
        pack(tmp_path / "theirs", tmp_path / "out")


def test_the_run_itself_is_never_overwritten(run):
    folder = run()
    with pytest.raises(ConfigError, match="stylegan2 holds the run itself"):
        pack(folder, folder, overwrite=True)
    with pytest.raises(ConfigError, match="holds the run itself"):
        pack(folder, folder.parent, overwrite=True)


def test_training_into_a_packed_folder_is_refused_and_its_weights_stand(run, tmp_path, tiny_config, pictures):
    pack(run(), tmp_path / "packed")
    before = (tmp_path / "packed/generator.safetensors").read_bytes()
    config = tiny_config("stylegan2")
    with pytest.raises(ConfigError, match=r"^packed holds a generator and no state to go on from .+ another --out\.$"):
        fit(pictures(config.resolution), config, tmp_path / "packed")
    assert (tmp_path / "packed/generator.safetensors").read_bytes() == before
