from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from histoforensics.generators.families import FAMILIES
from histoforensics.generators.info import describe, layer_table
from histoforensics.slides import ConfigError

PUBLISHED = {
    "stylegan": (26_086_229, 23_052_353),
    "stylegan2": (30_034_338, 28_864_129),
    "pathologygan": (184_917_780, 30_068_458),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_table_adds_up_to_the_published_counts(name: str) -> None:
    info = describe(name)
    assert (info.generator_parameters, info.discriminator_parameters) == PUBLISHED[name]


def test_rows_of_a_hand_made_network() -> None:
    network = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Sequential(nn.Linear(5, 2, bias=False)))
    rows = layer_table(network, torch.zeros(1, 3))
    assert [(row.name, row.type, row.output_shape, row.parameters) for row in rows] == [
        ("0", "Linear", (5,), 20),
        ("2.0", "Linear", (2,), 10),
    ]


def test_layers_that_are_never_called_have_no_shape() -> None:
    rows = describe("pathologygan").generator
    assert {row.name for row in rows if row.output_shape is None} == {f"mapping.unused.{i}" for i in range(4)}
    inactive = {row.name for row in describe("stylegan").generator if row.output_shape is None}
    assert inactive == {f"synthesis.to_rgb.{i}" for i in range(6)}  # those of the lower levels


def test_the_last_rows_are_an_image_and_a_logit() -> None:
    info = describe("stylegan2", 64)
    assert info.config.resolution == 64
    assert info.generator[-1].output_shape == (3, 64, 64)
    assert info.discriminator[-1].output_shape == (1,)


def test_presets_differ_in_width() -> None:
    assert describe("stylegan2", preset="compact").generator_parameters < 2_000_000


def test_json_holds_the_layers_and_the_totals() -> None:
    values = json.loads(json.dumps(describe("stylegan2").to_json()))
    assert values["generator"]["parameters"] == 30_034_338
    assert values["discriminator"]["layers"][0] == {
        "name": "from_rgb.conv", "type": "EqualConv2d", "output_shape": [128, 256, 256], "parameters": 512,
    }  # fmt: skip
    assert values["config"]["fmap_base"] == 16384


def test_the_table_leaves_the_network_as_it_was() -> None:
    network = nn.Sequential(nn.Linear(2, 2)).train()
    layer_table(network, torch.zeros(1, 2))
    assert network.training
    assert not network[0]._forward_hooks


def test_an_unknown_generator_and_an_impossible_size_are_refused() -> None:
    with pytest.raises(
        ConfigError, match="the generator must be one of stylegan, stylegan2, pathologygan, got 'dcgan'"
    ):
        describe("dcgan")
    with pytest.raises(ConfigError, match="resolution must be 28, 56, 112 or 224, got 256"):
        describe("pathologygan", 256)
