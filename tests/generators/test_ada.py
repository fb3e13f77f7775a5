"""Adaptive augmentation: each operation keeps what it should on average, and p follows the signs."""

import math

import pytest
import torch

from histoforensics.generators import ada
from histoforensics.generators.ada import MAX_CHANCE, Adaptive, ada_augment, optical_density

RANGE = (-1.0, 1.0)
OPERATIONS = {
    "mirror": ada.mirror,
    "quarter_turn": ada.quarter_turn,
    "shift": ada.shift,
    "zoom_and_turn": ada.zoom_and_turn,
    "restain": lambda images, chance, rng: ada.restain(images, chance, rng, RANGE),
}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def tissue(n=4, side=16, seed=1):
    return torch.rand(n, 3, side, side, generator=rng(seed)) * 1.8 - 0.9


@pytest.mark.parametrize("name", OPERATIONS)
def test_at_chance_zero_every_operation_returns_the_very_pixels(name):
    images = tissue()
    assert torch.equal(OPERATIONS[name](images, 0.0, rng()), images)


@pytest.mark.parametrize("name", ["quarter_turn", "shift", "zoom_and_turn", "restain"])
@pytest.mark.parametrize("chance", [0.3, 0.8])
def test_an_operation_touches_the_share_of_images_that_the_chance_says(name, chance):
    images = tissue(1, 8).expand(600, -1, -1, -1)
    touched = (OPERATIONS[name](images, chance, rng()) != images).flatten(1).any(1).double().mean().item()
    moving = {"quarter_turn": 0.75, "shift": 8 / 9, "restain": 1.0}  # the rest of the draws is "by nothing"
    expected = 1 - (1 - chance) ** 2 if name == "zoom_and_turn" else chance * moving[name]
    assert touched == pytest.approx(expected, abs=4 * math.sqrt(0.25 / 600))


def test_mirrors_and_quarter_turns_only_reorder_pixels():
    images = tissue()
    for operation in (ada.mirror, ada.quarter_turn):
        moved = operation(images, 1.0, rng())
        assert torch.equal(moved.flatten(2).sort(2).values, images.flatten(2).sort(2).values)


def test_at_chance_one_all_four_quarters_and_both_mirror_forms_are_equally_frequent():
    corner = torch.zeros(2000, 1, 4, 4)
    corner[:, :, 0, 0] = 1.0
    share = ada.quarter_turn(corner, 1.0, rng()).mean(0)[0]
    for y, x in ((0, 0), (0, 3), (3, 0), (3, 3)):
        assert share[y, x] == pytest.approx(0.25, abs=0.04)
    assert ada.mirror(corner, 1.0, rng()).mean(0)[0, 0, 0] == pytest.approx(0.5, abs=0.045)


def test_shifts_have_mean_zero_and_end_at_an_eighth():
    dot = torch.zeros(3000, 1, 16, 16)
    dot[:, :, 8, 8] = 1.0
    places = ada.shift(dot, 1.0, rng()).flatten(1).argmax(1)
    rows, columns = places // 16 - 8, places % 16 - 8
    for moves in (rows, columns):
        assert int(moves.abs().max()) == 2
        assert moves.double().mean().item() == pytest.approx(0, abs=4 * math.sqrt(2 / 3000))


def test_a_warp_keeps_flat_images_and_round_shapes_in_the_middle():
    flat = torch.full((8, 3, 16, 16), 0.3)
    torch.testing.assert_close(ada.zoom_and_turn(flat, 1.0, rng()), flat)
    y, x = torch.meshgrid(torch.arange(33) - 16, torch.arange(33) - 16, indexing="ij")
    disc = torch.exp(-(x**2 + y**2) / 40.0).expand(200, 1, -1, -1)
    mean = ada.zoom_and_turn(disc, 1.0, rng()).mean(0)[0]
    assert (mean * x).sum() / mean.sum() == pytest.approx(0, abs=0.05)  # the centre of mass stays
    assert mean[16, 26] == pytest.approx(float(mean[26, 16]), abs=0.03)  # no direction is preferred


def test_a_strange_stain_keeps_white_white_and_the_mean_density_of_each_stain():
    assert torch.equal(ada.restain(torch.ones(3, 3, 4, 4), 1.0, rng(), RANGE), torch.ones(3, 3, 4, 4))
    light = torch.tensor([0.6, 0.4, 0.7]).view(1, 3, 1, 1)
    images = (light * 2 - 1).expand(20_000, -1, 1, 1)
    density = optical_density((ada.restain(images, 1.0, rng(), RANGE) + 1) / 2).mean(0)
    torch.testing.assert_close(density, optical_density(light)[0], rtol=0.01, atol=0)


def test_pixels_darker_than_black_still_carry_a_gradient():
    images = torch.full((2, 3, 2, 2), -1.2, requires_grad=True)
    ada.restain(images, 1.0, rng(), RANGE).sum().backward()
    assert images.grad.isfinite().all()
    assert (images.grad.abs() > 0).all()


def test_the_pipeline_has_first_and_second_derivatives():
    images = tissue(2, 6).double().requires_grad_()

    def pipeline(x):
        return ada_augment(x, 1.0, rng(3), RANGE)

    assert torch.autograd.gradcheck(pipeline, (images,), fast_mode=True)
    assert torch.autograd.gradgradcheck(pipeline, (images,), fast_mode=True)


def test_the_stream_of_random_numbers_moves_alike_at_any_chance():
    ends = []
    for chance in (0.0, 0.5, 1.0):
        generator = rng()
        ada_augment(tissue(), chance, generator, RANGE)
        ends.append(torch.rand((), generator=generator).item())
    assert len(set(ends)) == 1


def test_p_rises_above_the_target_falls_below_it_and_stays_in_its_range():
    adaptive = Adaptive()
    adaptive.see(torch.tensor([1.0, 2.0, 0.5, -0.1]))  # mean sign 0.5
    adaptive.move(0.4, 0.25)
    assert (adaptive.chance, adaptive.signs, adaptive.count) == (0.25, 0, 0)
    adaptive.see(torch.tensor([1.0, 2.0, 0.5, -0.1]))
    adaptive.move(0.6, 0.1)
    assert adaptive.chance == pytest.approx(0.15)
    adaptive.move(0.6, 0.1)  # nothing was seen
    assert adaptive.chance == pytest.approx(0.15)
    for target, end in ((-2.0, MAX_CHANCE), (2.0, 0.0)):
        for _ in range(20):
            adaptive.see(torch.ones(2))
            adaptive.move(target, 0.1)
        assert adaptive.chance == end
