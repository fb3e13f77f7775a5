"""The loop: exact resume after any end, for the three families; budgets, growth, skipped steps."""

import json
import signal
import subprocess
import sys
import time
from itertools import pairwise
from math import isfinite

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from histoforensics.generators import Growth, fit, load_generator
from histoforensics.generators.phases import Phase
from histoforensics.generators.run import Run, all_finite, fade_real
from histoforensics.slides import CheckpointError, ConfigError

FAMILIES = ("stylegan", "stylegan2", "pathologygan")


def newest_state(out):
    folder = max((out / "state").iterdir())
    values = json.loads((folder / "state.json").read_text())
    for name in ("seconds", "config"):
        values.pop(name)
    return load_file(folder / "state.safetensors"), values


def assert_same_run(first, second):
    (tensors, values), (others, other_values) = newest_state(first), newest_state(second)
    assert values == other_values
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, others[name]), name


@pytest.mark.parametrize("family", FAMILIES)
def test_two_halves_end_with_the_same_bits_as_one_whole_run(family, tiny_config, pictures, tmp_path):
    config = tiny_config(family)
    data = pictures(config.resolution)
    fit(data, config, tmp_path / "whole")
    half = fit(data, tiny_config(family, kimg=0.024, snapshot_kimg=0.1), tmp_path / "halves")
    assert half.is_complete
    assert half.steps == 3
    done = fit(pictures(config.resolution), config, tmp_path / "halves")
    assert (done.images, done.steps) == (48, 6)
    assert_same_run(tmp_path / "whole", tmp_path / "halves")
    assert (tmp_path / "whole/generator.safetensors").read_bytes() == (
        tmp_path / "halves/generator.safetensors"
    ).read_bytes()


def test_adaptive_augmentation_moves_and_goes_on_where_it_stopped(tiny_config, pictures, tmp_path):
    # a mean sign above -0.99 is certain soon, so the chance rises; three moves before the cut, three after
    settings = {"ada_target": -0.99, "ada_kimg": 0.1, "ada_every": 2, "micro_batch": None}
    fit(pictures(16), tiny_config("stylegan2", **settings), tmp_path / "whole")
    fit(pictures(16), tiny_config("stylegan2", kimg=0.024, **settings), tmp_path / "halves")
    fit(pictures(16), tiny_config("stylegan2", **settings), tmp_path / "halves")
    assert_same_run(tmp_path / "whole", tmp_path / "halves")
    last = json.loads((tmp_path / "whole/log.jsonl").read_text().splitlines()[-1])
    assert last["ada"]["p"] == newest_state(tmp_path / "whole")[1]["adaptive"]["chance"] > 0


def test_a_run_from_before_a_setting_existed_goes_on_without_it_alone(tiny_config, pictures, tmp_path):
    config = tiny_config("stylegan2", kimg=0.016)
    fit(pictures(16), config, tmp_path)
    file = max((tmp_path / "state").iterdir()) / "state.json"
    values = json.loads(file.read_text())
    for name in ("ada_target", "ada_kimg", "ada_every"):
        del values["config"][name]
    del values["adaptive"]
    file.write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=r"a run with ada_target None, but 0\.6 is asked for"):
        fit(pictures(16), tiny_config("stylegan2", kimg=0.024, ada_target=0.6), tmp_path)
    assert fit(pictures(16), tiny_config("stylegan2", kimg=0.024), tmp_path).images == 24


def test_tensorboard_gets_the_curves_of_the_log(tiny_config, pictures, tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    fit(pictures(16), tiny_config("stylegan2", kimg=0.016), tmp_path, tensorboard=True)
    (file,) = (tmp_path / "tensorboard").iterdir()
    assert b"losses/D" in file.read_bytes()


def test_without_tensorboard_its_option_is_refused(tiny_config, pictures, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match="tensorboard is not installed"):
        fit(pictures(16), tiny_config("stylegan2"), tmp_path, tensorboard=True)


def test_every_part_of_the_state_moves_so_that_equal_bits_mean_something(tiny_config, pictures, tmp_path):
    fit(pictures(16), tiny_config("stylegan2", kimg=0.016), tmp_path / "run")
    early, _ = newest_state(tmp_path / "run")
    fit(pictures(16), tiny_config("stylegan2"), tmp_path / "run")
    late, _ = newest_state(tmp_path / "run")
    still = {name for name in early if torch.equal(early[name], late[name])}
    assert all("noise_const" in name for name in still), still


def mean_square(players, now, config):
    """A loss that sees every image alone: the parameters times the mean of the images' squares."""
    return sum(p.square().sum() for p in players.D.parameters()) * now.real.square().mean()


KILLED = """
import json, sys
import numpy as np, torch
torch.set_num_threads(int(sys.argv[2]))
from histoforensics.generators import CropSource, TrainConfig, fit
from histoforensics.generators.data import Picture
pixels = np.random.default_rng(0).integers(0, 256, (60, 70, 3)).astype(np.uint8)
data = CropSource([Picture("noise", 70, 60, lambda: pixels)], 16, digest="d", mpp=0.5, origin="noise")
config = TrainConfig.from_json(json.loads(sys.argv[3]))
fit(data, config, sys.argv[1], progress=lambda done, total, note: print(done, flush=True))
"""


def kill_after(out, config, images):
    """Train in another process and kill it at some moment after so many images."""
    arguments = [sys.executable, "-c", KILLED, str(out), str(torch.get_num_threads()), json.dumps(config.to_json())]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if int(line) >= images:
                time.sleep(0.007)  # into a step or a snapshot
                process.kill()
                break
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_a_run_killed_twice_at_any_moment_ends_with_the_same_bits(tiny_config, pictures, tmp_path):
    config = tiny_config("stylegan2", kimg=0.08, snapshot_kimg=0.016, grid_side=1)
    fit(pictures(16), config, tmp_path / "whole")
    for images in (24, 56):
        kill_after(tmp_path / "killed", config, images)
    fit(pictures(16), config, tmp_path / "killed")
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
    images = [json.loads(line)["images"] for line in (tmp_path / "killed/log.jsonl").read_text().splitlines()]
    assert images == sorted(set(images))
    assert images[-1] == 80
    assert len(list((tmp_path / "killed/state").iterdir())) == 2


def test_a_half_written_state_is_swept_away_and_the_one_before_it_counts(tiny_config, pictures, tmp_path):
    config = tiny_config("stylegan2")
    fit(pictures(16), config, tmp_path / "whole")
    fit(pictures(16), tiny_config("stylegan2", kimg=0.032), tmp_path / "cut")
    broken = tmp_path / "cut/state/.step-00000005.abc"
    broken.mkdir()
    (broken / "state.safetensors").write_bytes(b"half")
    with (tmp_path / "cut/log.jsonl").open("a") as log:
        log.write('{"images": 40, "st')
    fit(pictures(16), config, tmp_path / "cut")
    assert not broken.exists()
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_spent_budget_stops_the_run_and_a_later_call_goes_on(tiny_config, pictures, tmp_path):
    config = tiny_config("stylegan2", kimg=1000.0)
    first = fit(pictures(16), config, tmp_path, budget_seconds=0.5)
    second = fit(pictures(16), config, tmp_path, budget_seconds=0.5)
    assert not second.is_complete
    assert 0 < first.images < second.images
    assert load_generator(tmp_path).card["images"] == second.images


def test_a_complete_run_is_left_as_it_is(tiny_config, pictures, tmp_path):
    config = tiny_config("pathologygan")
    fit(pictures(28), config, tmp_path)
    before = (tmp_path / "generator.safetensors").read_bytes(), (tmp_path / "log.jsonl").read_bytes()
    again = fit(pictures(28), config, tmp_path)
    assert again.is_complete
    assert before == ((tmp_path / "generator.safetensors").read_bytes(), (tmp_path / "log.jsonl").read_bytes())


def test_a_folder_of_another_run_is_refused_with_the_setting_named(tiny_config, pictures, tmp_path):
    fit(pictures(16), tiny_config("stylegan2"), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"run holds a run with batch 8, but 4 is asked for"):
        fit(pictures(16), tiny_config("stylegan2", batch=4), tmp_path / "run")
    with pytest.raises(ConfigError, match="on other data"):
        fit(pictures(16, digest="e"), tiny_config("stylegan2"), tmp_path / "run")


def test_a_longer_run_goes_on_with_the_growth_that_it_began_with(tiny_config, pictures, tmp_path):
    other = Growth(initial_px=8, stable_kimg=9.0, fade_kimg=0.0)
    fit(pictures(16), tiny_config("stylegan2"), tmp_path / "whole")
    fit(pictures(16), tiny_config("stylegan2", kimg=0.024), tmp_path / "longer")
    fit(pictures(16), tiny_config("stylegan2", growth=other), tmp_path / "longer")
    assert_same_run(tmp_path / "whole", tmp_path / "longer")
    assert load_generator(tmp_path / "longer").config == tiny_config("stylegan2")


def test_a_damaged_state_is_refused_in_one_sentence(tiny_config, pictures, tmp_path):
    fit(pictures(16), tiny_config("stylegan2"), tmp_path)
    (max((tmp_path / "state").iterdir()) / "state.safetensors").write_bytes(b"\0" * 40)
    with pytest.raises(CheckpointError, match=r"state\.safetensors is not a readable safetensors file"):
        fit(pictures(16), tiny_config("stylegan2", kimg=1.0), tmp_path)


def test_crops_of_another_size_are_refused(tiny_config, pictures, tmp_path):
    with pytest.raises(ConfigError, match="data must be crops of 16 px, got '20 px'"):
        fit(pictures(20), tiny_config("stylegan2"), tmp_path)
    with pytest.raises(ConfigError, match="budget_seconds must be above 0"):
        fit(pictures(16), tiny_config("stylegan2"), tmp_path, budget_seconds=0)


def test_a_step_with_a_non_finite_gradient_is_skipped_and_counted(tiny_config, pictures):
    run = Run(pictures(16), tiny_config("stylegan2", path_weight=0.0), torch.device("cpu"))
    with torch.no_grad():
        run.players.D.get_parameter(next(iter(dict(run.players.D.named_parameters())))).fill_(float("nan"))
    before = {name: tensor.clone() for name, tensor in run.players.G.state_dict().items()}
    losses = run.step()
    assert run.skipped == {"G": 1, "D": 1, "D-r1": 1}
    assert not isfinite(losses["D"])
    for name, tensor in run.players.G.named_parameters():
        assert torch.equal(tensor, before[name])


def test_infinite_and_missing_numbers_are_seen_in_gradients():
    assert all_finite([torch.ones(3), torch.zeros(0)])
    assert all_finite([])
    assert not all_finite([torch.ones(3), torch.tensor([1.0, float("inf")])])
    assert not all_finite([torch.tensor(float("nan"))])


def test_gradients_summed_over_parts_equal_those_of_the_whole_batch(tiny_config, pictures):
    gradients = []
    for micro_batch in (None, 8, 4, 2):
        config = tiny_config("stylegan2", micro_batch=micro_batch)
        run = Run(pictures(16), config, torch.device("cpu"))
        phase = Phase("D", "D", loss=mean_square, weight=3.0)
        run._update(phase, 0, run._real(8))
        gradients.append([p.grad for p in run.players.D.parameters()])
    for parts in gradients[1:]:
        for summed, whole in zip(parts, gradients[0], strict=True):
            torch.testing.assert_close(summed, whole, rtol=1e-4, atol=1e-6)


def test_both_learning_rates_follow_the_cooldown_also_after_a_resume(tiny_config, pictures):
    config = tiny_config("stylegan", growth=None, kimg=0.032, cooldown_kimg=0.016)
    run = Run(pictures(config.resolution), config, torch.device("cpu"))
    for _ in range(3):
        run.step()
    resumed = Run(run.data, config, torch.device("cpu"))
    resumed.restore(run.state())
    for one in (run, resumed):
        one.step()  # the fourth batch of 8 begins half-way down
        rates = [group["lr"] for adam in one.adams.values() for group in adam.param_groups]
        assert rates == pytest.approx([0.5 * config.lr_g, 0.5 * config.lr_d])


def test_a_diversity_weight_adds_to_the_loss_of_g_alone(tiny_config, pictures):
    losses = []
    for diversity in (0.0, 3.0):
        config = tiny_config("pathologygan", diversity=diversity)
        losses.append(Run(pictures(config.resolution), config, torch.device("cpu")).step())
    plain, with_it = losses
    assert plain["G"] < with_it["G"] < plain["G"] + 3.0
    assert plain["D"] == with_it["D"]


def test_a_growing_run_starts_small_and_forgets_its_moments_at_every_change(tiny_config, pictures):
    run = Run(pictures(16), tiny_config("stylegan"), torch.device("cpu"))
    adams, lods = [], []
    for _ in range(12):
        run.step()
        adams.append(id(run.adams["G"]))
        lods.append(run.lod)
    assert lods[0] == 2.0
    assert lods[-1] == 0.0
    assert lods == sorted(lods, reverse=True)
    changes = sum((int(a), -int(-a // 1)) != (int(b), -int(-b // 1)) for a, b in pairwise(lods))
    assert len(set(adams)) == changes + 1


def test_reals_fade_by_means_of_two_by_two():
    image = torch.tensor([[0.0, 4.0, 8.0, 8.0], [4.0, 4.0, 8.0, 8.0], [1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]])
    image = image.view(1, 1, 4, 4)
    assert torch.equal(fade_real(image, 0.0), image)
    half = fade_real(image, 1.0)[0, 0]
    assert half.tolist() == [[3, 3, 8, 8], [3, 3, 8, 8], [1, 1, 2, 2], [1, 1, 2, 2]]
    torch.testing.assert_close(fade_real(image, 0.25)[0, 0, 0], torch.tensor([0.75, 3.75, 8.0, 8.0]))
    quarter = fade_real(image, 1.5)[0, 0]
    torch.testing.assert_close(quarter[0], torch.tensor([3.25, 3.25, 5.75, 5.75]))  # mean of the four: 3.5


def test_a_run_leaves_grids_a_log_and_a_card_without_paths(tiny_config, pictures, tmp_path):
    result = fit(pictures(16), tiny_config("stylegan2"), tmp_path / "run")
    assert sorted(p.name for p in (tmp_path / "run/grids").iterdir()) == [
        "000000016.png", "000000032.png", "000000048.png", "real.png",
    ]  # fmt: skip
    assert np.asarray(Image.open(tmp_path / "run/grids/000000048.png")).shape == (32, 32, 3)
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == [16, 32, 48]
    assert set(lines[0]["losses"]) == {"G", "G-path", "D", "D-r1"}
    card = (tmp_path / "run/run.json").read_text()
    assert str(tmp_path) not in card
    assert json.loads(card)["images"] == result.images
    assert result.images_per_second > 0


def test_threads_are_the_configs_while_training_and_the_callers_afterwards(tiny_config, pictures, tmp_path):
    before, seen = torch.get_num_threads(), []
    config = tiny_config("stylegan2", threads=before + 1)
    fit(pictures(16), config, tmp_path, progress=lambda *_: seen.append(torch.get_num_threads()))
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before


def test_progress_tells_kimg_speed_and_losses(tiny_config, pictures, tmp_path):
    said = []
    fit(
        pictures(16),
        tiny_config("stylegan"),
        tmp_path,
        progress=lambda done, total, note: said.append((done, total, note)),
    )
    assert [done for done, *_ in said] == [8, 16, 24, 32, 40, 48]
    assert {total for _, total, _ in said} == {48}
    assert "kimg" in said[-1][2]
    assert "img/s" in said[-1][2]
    assert "lod" in said[-1][2]
