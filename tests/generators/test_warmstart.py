"""Networks of twice the side inherit what fits."""

import pytest
import torch

from histoforensics.generators import FAMILIES
from histoforensics.generators.resample import fir_up
from histoforensics.generators.run import Run
from histoforensics.generators.spectral import SpectralWeight
from histoforensics.generators.warmstart import inherit_discriminator, inherit_generator, settle


def build(family, resolution, seed, **fields):
    return FAMILIES[family].build(FAMILIES[family].config(resolution=resolution, **fields), seed)


STYLEGAN2 = {"z_dim": 8, "w_dim": 8, "fmap_base": 128, "fmap_max": 8, "mapping_layers": 2}


def test_a_stylegan2_of_twice_the_side_first_draws_the_small_image_enlarged():
    small, _ = build("stylegan2", 16, 0, **STYLEGAN2)
    large, _ = build("stylegan2", 32, 1, **STYLEGAN2)
    inherit_generator(large, small)
    z = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(large(z, noise="none"), fir_up(small(z, noise="none")))


def test_a_discriminators_lower_stages_are_inherited_at_their_new_place():
    _, small = build("stylegan2", 16, 0, **STYLEGAN2)
    _, large = build("stylegan2", 32, 1, **STYLEGAN2)
    inherit_discriminator(large, small)
    features = torch.randn(4, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(large.blocks[1](features), small.blocks[0](features))
        torch.testing.assert_close(large.blocks[2](features), small.blocks[1](features))
    assert torch.equal(large.out.weight, small.out.weight)


def test_a_pathologygan_inherits_its_dense_layers_and_stages_with_their_spectral_vectors():
    fields = {"z_dim": 8, "width": 0.05}
    small, small_d = build("pathologygan", 28, 0, **fields)
    large, large_d = build("pathologygan", 56, 1, **fields)
    inherit_generator(large, small)
    inherit_discriminator(large_d, small_d)
    mine, theirs = large.state_dict(), small.state_dict()
    shared = [name for name in theirs if name in mine and mine[name].shape == theirs[name].shape]
    assert all(torch.equal(mine[name], theirs[name]) for name in shared)
    assert any(name.endswith("spectral.u") for name in shared)
    assert torch.equal(large_d.blocks[-1].down.spectral.weight, small_d.blocks[-1].down.spectral.weight)


def test_a_run_goes_on_at_twice_the_side_with_the_networks_it_had(tiny_config, pictures):
    run = Run(pictures(16), tiny_config("stylegan2", kimg=1.0), torch.device("cpu"))
    run.step()
    run.step()
    assert run.players.G.resolution == 8
    before = run.players.G.mapping.layers[0].weight.detach().clone()
    run._follow_schedule()
    assert run.players.G.resolution == run.players.D.resolution == run.players.G_ema.resolution == 16
    assert torch.equal(run.players.G.mapping.layers[0].weight, before)
    run.step()
    assert run.lod == 0


def test_a_run_in_a_hurry_is_full_grown_when_its_time_is_up(tiny_config, pictures):
    run = Run(pictures(16), tiny_config("stylegan2", kimg=1.0), torch.device("cpu"))
    run.hurry(0.4)
    run.step()
    assert run.lod == 1
    run.hurry(1.0)
    run.step()
    assert run.lod == 0
    run.hurry(0.1)  # a lead is never given back
    run.step()
    assert run.lod == 0


def test_settled_spectral_weights_have_a_norm_of_one():
    G, _ = FAMILIES["pathologygan"].build(FAMILIES["pathologygan"].config("compact", resolution=28), seed=0)
    settle(G, steps=200)
    for module in G.modules():
        if isinstance(module, SpectralWeight):
            norm = torch.linalg.matrix_norm(module().flatten(1).double(), ord=2)
            assert norm.item() == pytest.approx(1.0, abs=0.02)
