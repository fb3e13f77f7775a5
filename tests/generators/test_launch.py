"""Several processes on one run: two give what one gives on the same global batch."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from histoforensics.generators import fit, open_source, preset
from histoforensics.generators.launch import fit_together, shared_out
from histoforensics.generators.phases import Players
from histoforensics.generators.team import MovingBuffers, Team
from histoforensics.slides import ConfigError


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3)).astype(np.uint8)
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize("family", ["stylegan2", "pathologygan"])
def test_two_processes_end_with_the_weights_of_one_on_the_same_global_batch(family, tiny_config, photographs, tmp_path):
    # beta1 above 0, and one thread each: Adam turns gradients that cancel to nearly nothing, such as those of a bias
    # under a relativistic loss, into whole steps, and so magnifies the order of sums
    config = tiny_config(
        family, micro_batch=4, precision="fp32", kimg=0.024, betas=(0.5, 0.9), ada_target=0.6, threads=1
    )
    alone = fit(open_source([photographs], config.resolution), config, tmp_path / "one")
    together = fit_together([photographs], config, tmp_path / "two", processes=2)
    assert (alone.images, alone.steps, alone.skipped) == (together.images, together.steps, together.skipped)
    states = [load_file(max((tmp_path / run / "state").iterdir()) / "state.safetensors") for run in ("one", "two")]
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        if not name.startswith("adam"):
            torch.testing.assert_close(states[1][name], tensor, rtol=1e-5, atol=1e-5, msg=name)
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == sorted(p.name for p in (tmp_path / "two").iterdir())


def test_a_batch_is_cut_into_parts_for_the_processes_unless_it_is_cut_already(tiny_config):
    config = preset("stylegan", "compact")  # batches of 8, and of 4 at two sizes
    assert shared_out(config, 1).micro_batch is None
    assert shared_out(config, 2).micro_batch == 2
    assert shared_out(tiny_config("stylegan2", micro_batch=4), 2).micro_batch == 4
    with pytest.raises(ConfigError, match="processes must be a divisor of the batch, 4, got 3"):
        shared_out(config, 3)
    with pytest.raises(ConfigError, match="processes must be at least 1, got 0"):
        shared_out(config, 0)


def test_a_process_alone_talks_to_nobody():
    team, tensor = Team.current(), torch.ones(3)
    team.sum_([tensor])
    team.wait()
    assert team == Team(0, 1)
    assert team.is_first
    assert torch.equal(tensor, torch.ones(3))
    assert team.agreed(0.25) == 0.25


def test_moving_buffers_begin_each_part_anew_and_end_with_the_mean_of_the_parts():
    G = torch.nn.Module()
    G.register_buffer("w_avg", torch.tensor([1.0]))
    G.register_buffer("noise_const", torch.tensor([5.0]))
    players = Players(G, torch.nn.Module(), G, torch.tensor(2.0))
    moving = MovingBuffers(players)
    for step in (1.0, 3.0):
        moving.rewind()
        assert G.w_avg.item() == 1.0
        G.w_avg += step
        players.path_mean = players.path_mean + 2 * step
        moving.collect(0.5)
    moving.settle()
    assert (G.w_avg.item(), players.path_mean.item(), G.noise_const.item()) == (3.0, 6.0, 5.0)
