from __future__ import annotations

import pytest
import torch

from histoforensics.generators.families import FAMILIES
from histoforensics.generators.pathologygan import PathologyGANConfig
from histoforensics.slides import ConfigError

SMALL = {
    "stylegan": {"resolution": 8, "z_dim": 4, "w_dim": 4, "fmap_base": 16, "fmap_max": 4, "mapping_layers": 1},
    "stylegan2": {"resolution": 8, "z_dim": 4, "w_dim": 4, "fmap_base": 16, "fmap_max": 4, "mapping_layers": 1},
    "pathologygan": {"resolution": 28, "z_dim": 4, "width": 1 / 64},
}


def test_the_register_holds_the_three_families_under_their_own_names() -> None:
    assert list(FAMILIES) == ["stylegan", "stylegan2", "pathologygan"]
    assert all(family.name == name for name, family in FAMILIES.items())


@pytest.mark.parametrize("name", FAMILIES)
def test_networks_keep_the_same_promises(name: str) -> None:
    family = FAMILIES[name]
    config = family.config(**SMALL[name])
    G, D = family.build(config, seed=0)
    z = torch.randn(4, G.z_dim)
    ws = G.styles(z)
    images = G.synthesis(ws, noise="const")
    assert G.mapping(z).shape == (4, G.w_dim)
    assert ws.shape == (4, G.num_ws, G.w_dim)
    assert images.shape == (4, 3, config.resolution, config.resolution)
    assert D(images).shape == (4,)
    assert G.value_range in {(-1.0, 1.0), (0.0, 1.0)}
    assert torch.equal(G.eval()(z, noise="const"), G(z, noise="const"))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_seed_fixes_the_weights_and_leaves_the_global_stream(name: str) -> None:
    family = FAMILIES[name]
    config = family.config(**SMALL[name])
    before = torch.get_rng_state()
    first, again, other = (family.build(config, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    for network in (0, 1):
        states = [list(pair[network].state_dict().values()) for pair in (first, again, other)]
        assert all(torch.equal(a, b) for a, b in zip(states[0], states[1], strict=True))
        assert not all(torch.equal(a, b) for a, b in zip(states[0], states[2], strict=True))


@pytest.mark.parametrize(
    ("name", "paper", "compact"), [("stylegan", 256, 128), ("stylegan2", 256, 128), ("pathologygan", 224, 112)]
)
def test_presets_differ_in_size(name: str, paper: int, compact: int) -> None:
    family = FAMILIES[name]
    assert family.config().resolution == paper
    assert family.config("compact").resolution == compact
    half = compact // 2
    assert family.config("compact", resolution=half).resolution == half


def test_an_unknown_field_is_named_with_those_that_exist() -> None:
    with pytest.raises(
        ConfigError, match=r"no setting fmap_base; it has dense_width, resolution, variant, width, z_dim\."
    ):
        FAMILIES["pathologygan"].config(fmap_base=3)


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ConfigError, match="preset must be paper or zoo or compact, got 'tiny'"):
        FAMILIES["stylegan"].config("tiny")  # type: ignore[arg-type]


def test_a_config_of_another_family_is_refused() -> None:
    with pytest.raises(ConfigError, match="the config of StyleGAN must be StyleGANConfig, got PathologyGANConfig"):
        FAMILIES["stylegan"].build(PathologyGANConfig())
