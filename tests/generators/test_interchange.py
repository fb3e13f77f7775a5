"""The tables of names: every tensor of ours has one source, and no source serves two."""

from __future__ import annotations

import pytest
import torch

from histoforensics.generators import FAMILIES, stylegan_names
from histoforensics.generators.interchange import discriminator_table, generator_table, resample_filters
from histoforensics.generators.stylegan import StyleGANConfig
from histoforensics.generators.stylegan2 import StyleGAN2Config


def tensors(family, config):
    with torch.device("meta"):
        return [set(network.state_dict()) for network in FAMILIES[family].build(config)]


@pytest.mark.parametrize("scheme", ["stylegan2-ada-pytorch", "rosinality", "tensorflow"])
@pytest.mark.parametrize(("resolution", "layers"), [(8, 1), (256, 8), (1024, 2)])
def test_every_tensor_of_a_stylegan2_has_one_source_of_its_own(scheme, resolution, layers):
    config = StyleGAN2Config(resolution=resolution, mapping_layers=layers, fmap_max=4)
    tables = generator_table(scheme, resolution, layers), discriminator_table(scheme, resolution)
    for table, wanted in zip(tables, tensors("stylegan2", config), strict=True):
        assert table.keys() == wanted
        assert len({source.name for source in table.values()}) == len(table)


@pytest.mark.parametrize(("resolution", "layers"), [(8, 1), (256, 8), (1024, 2)])
def test_every_tensor_of_a_stylegan_has_one_source_of_its_own(resolution, layers):
    config = StyleGANConfig(resolution=resolution, mapping_layers=layers, fmap_max=4)
    tables = stylegan_names.generator_table(resolution, layers), stylegan_names.discriminator_table(resolution)
    for table, wanted in zip(tables, tensors("stylegan", config), strict=True):
        assert table.keys() == wanted
        assert len({source.name for source in table.values()}) == len(table)


def test_names_at_256_px_are_those_of_the_published_files():
    ada, tf = (generator_table(scheme, 256, 8) for scheme in ("stylegan2-ada-pytorch", "tensorflow"))
    rosinality, stylegan = generator_table("rosinality", 256, 8), stylegan_names.generator_table(256, 8)
    last = "synthesis.blocks.6.conv"
    assert ada[f"{last}.conv.affine.weight"].name == "synthesis.b256.conv1.affine.weight"
    assert tf[f"{last}.noise_const"].name == "synthesis/noise12"  # 13 noise maps
    assert rosinality[f"{last}.conv.weight"].name == "convs.11.conv.weight"
    assert rosinality["synthesis.blocks.6.to_rgb.bias"].name == "to_rgbs.5.bias"
    assert stylegan["synthesis.blocks.5.conv_epilogue.noise_const"].name == "synthesis/noise13"  # 14 noise maps
    assert stylegan["synthesis.to_rgb.6.weight"].name == "synthesis/ToRGB_lod0/weight"


def test_filters_stand_where_the_published_networks_have_them():
    G, D = resample_filters(8)
    assert sorted(G) == [
        f"synthesis.{name}resample_filter" for name in ("b4.conv1.", "b4.", "b8.conv0.", "b8.conv1.", "b8.")
    ]
    assert len(D) == len(set(D)) == 6
