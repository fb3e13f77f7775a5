"""Sheets: the right latents in the right cells, the two ends of a walk, and what cannot be truncated."""

import numpy as np
import pytest
import torch

from histoforensics.generators import (
    FAMILIES,
    LoadedGenerator,
    interpolation_sheet,
    sample,
    sample_sheet,
    truncation_sheet,
)
from histoforensics.generators.sheets import can_truncate, slerp
from histoforensics.slides import ConfigError


@pytest.fixture
def fresh(tiny_config):
    """A tiny generator of a family as it is before training, full-grown or not."""

    def make(family, lod=0.0):
        config = tiny_config(family)
        G, _ = FAMILIES[family].build(config.network_at(lod), seed=1)
        return LoadedGenerator(G.eval().requires_grad_(False), config, "0" * 64, family, {}, lod)

    return make


def cells(sheet, px):
    rows, columns = sheet.shape[0] // px, sheet.shape[1] // px
    return sheet.reshape(rows, px, columns, px, 3).swapaxes(1, 2)


def test_a_truncation_sheet_has_a_latent_a_row_and_a_psi_a_column(fresh):
    generator = fresh("stylegan2")
    found = cells(truncation_sheet(generator, rows=3, psis=(0.0, 0.5, 1.0), seed=2), 16)
    assert found.shape == (3, 3, 16, 16, 3)
    np.testing.assert_array_equal(found[0, 0], found[2, 0])  # the average image
    for column, psi in enumerate((0.0, 0.5, 1.0)):
        expected = np.concatenate(list(sample(generator, 3, seed=2, psi=psi, noise="const")))
        np.testing.assert_array_equal(found[:, column], expected)


@pytest.mark.parametrize("family", ["stylegan", "stylegan2", "pathologygan"])
@pytest.mark.parametrize("space", ["w", "z"])
def test_a_walk_begins_and_ends_with_its_latents(family, space, fresh):
    generator = fresh(family)
    px = generator.config.resolution
    found = cells(interpolation_sheet(generator, rows=2, steps=3, seed=1, space=space), px)
    ends = np.concatenate(list(sample(generator, 4, seed=1, noise="const"))).reshape(2, 2, px, px, 3)
    assert np.abs(found[:, [0, -1]].astype(int) - ends).max() <= 1
    assert not np.array_equal(found[:, 1], found[:, 0])


def test_a_generator_that_is_still_growing_is_shown_at_full_size(fresh):
    generator = fresh("stylegan2", lod=1.0)
    assert interpolation_sheet(generator, rows=1, steps=2).shape == (16, 32, 3)
    assert truncation_sheet(generator, rows=1, psis=(1.0,)).shape == (16, 16, 3)


def test_a_sample_sheet_is_the_samples_in_a_square(fresh):
    generator = fresh("stylegan2")
    found = cells(sample_sheet(generator, 4, seed=3), 16).reshape(4, 16, 16, 3)
    np.testing.assert_array_equal(found, np.concatenate(list(sample(generator, 4, seed=3))))


def test_a_generator_without_an_average_style_has_no_truncation_sheet(fresh):
    generator = fresh("pathologygan")
    assert not can_truncate(generator)
    with pytest.raises(ConfigError, match="psi must be 1 for a generator that keeps no average style"):
        truncation_sheet(generator)


@pytest.mark.parametrize(
    ("sheet", "settings", "sentence"),
    [
        (truncation_sheet, {"psis": (0.5, 2.0)}, "psi must be from 0 to 1"),
        (truncation_sheet, {"psis": ()}, "psis must be at least one psi"),
        (truncation_sheet, {"rows": 0}, "rows must be at least 1"),
        (interpolation_sheet, {"steps": 1}, "steps must be at least 2"),
        (interpolation_sheet, {"rows": 0}, "rows must be at least 1"),
        (interpolation_sheet, {"space": "x"}, "space must be w or z"),
        (sample_sheet, {"count": 0}, "count must be at least 1"),
    ],
)
def test_impossible_sheets_are_refused(sheet, settings, sentence, fresh):
    with pytest.raises(ConfigError, match=sentence):
        sheet(fresh("stylegan2"), **settings)


def test_slerp_keeps_to_the_circle_and_to_a_line_where_there_is_none():
    a, b = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    for t in (0.0, 0.25, 0.5, 1.0):
        angle = torch.tensor(t * torch.pi / 2)
        torch.testing.assert_close(slerp(a, b, t), 3 * torch.stack([angle.cos(), angle.sin()])[None])
    torch.testing.assert_close(slerp(a, 2 * a, 0.5), 1.5 * a)
