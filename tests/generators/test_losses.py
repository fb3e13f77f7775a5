from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from histoforensics.generators.losses import (
    diversity_penalty,
    gradient_penalty_intended,
    gradient_penalty_released,
    interpolate,
    layout_distance,
    logistic_d,
    nonsaturating_g,
    orthogonal_penalty,
    path_length,
    path_length_penalty,
    r1_penalty,
    relativistic_d,
    relativistic_g,
)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def quadratic(images: Tensor) -> Tensor:
    return 0.5 * images.square().sum((1, 2, 3))  # its gradient is the image itself


def test_logistic_losses_are_cross_entropies_with_logits() -> None:
    real, fake = numbers(5), numbers(5, seed=1)
    one, zero = torch.ones_like(real), torch.zeros_like(real)
    bce = F.binary_cross_entropy_with_logits
    torch.testing.assert_close(logistic_d(real, fake).mean(), bce(real, one) + bce(fake, zero))
    torch.testing.assert_close(nonsaturating_g(fake).mean(), bce(fake, one))


def test_logistic_losses_stay_finite_far_out() -> None:
    far = torch.tensor([-1e4, 1e4])
    assert logistic_d(far, -far).isfinite().all()
    assert nonsaturating_g(far).tolist() == [1e4, 0.0]


def test_r1_of_a_linear_discriminator_is_the_square_of_its_weights() -> None:
    a = numbers(3, 4, 4)
    penalty = r1_penalty(lambda x: (x * a).sum((1, 2, 3)), numbers(6, 3, 4, 4))
    torch.testing.assert_close(penalty, a.square().sum().expand(6))


def test_r1_is_per_image_and_can_be_minimised() -> None:
    images = numbers(3, 3, 4, 4)
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    penalty = r1_penalty(lambda x: scale * quadratic(x), images)
    torch.testing.assert_close(penalty, 4 * images.square().sum((1, 2, 3)))
    penalty.sum().backward()
    torch.testing.assert_close(scale.grad, 4 * images.square().sum())


def test_path_length_of_a_linear_generator_is_the_same_for_every_style() -> None:
    A, y = numbers(5, 3 * 2 * 2), numbers(1, 3, 2, 2, seed=1).expand(4, -1, -1, -1)
    lengths = path_length(lambda ws: (ws.sum(1) @ A).view(-1, 3, 2, 2), numbers(4, 7, 5, seed=2), y)
    # the Jacobian is A for each of the 7 layers, so the mean over layers is that of one layer
    torch.testing.assert_close(lengths, (A @ y[0].flatten() / 2).norm().expand(4))


def test_path_length_reaches_the_mapping_network() -> None:
    w = numbers(2, 5).requires_grad_()
    ws = w[:, None].expand(-1, 3, -1)
    lengths = path_length(lambda s: (s.square().sum(1) @ numbers(5, 12)).view(-1, 3, 2, 2), ws, numbers(2, 3, 2, 2))
    assert torch.autograd.grad(lengths.sum(), w)[0].abs().max() > 0


def test_path_length_penalty_moves_its_mean_first_and_detaches_it() -> None:
    lengths = torch.tensor([1.0, 3.0], requires_grad=True)
    penalty, mean = path_length_penalty(lengths, torch.tensor(0.0))
    assert math.isclose(mean.item(), 0.02, rel_tol=1e-6)
    torch.testing.assert_close(penalty, torch.tensor([0.98**2, 2.98**2]))
    assert not mean.requires_grad


def test_equal_logits_give_a_relativistic_loss_of_two_log_two() -> None:
    logits = torch.full((4,), 1.7)
    for loss in (relativistic_d, relativistic_g):
        assert math.isclose(loss(logits, logits).item(), 2 * math.log(2), rel_tol=1e-6)


def test_relativistic_losses_are_cross_entropies_against_the_other_mean() -> None:
    real, fake = numbers(5), numbers(5, seed=1)
    one, zero = torch.ones_like(real), torch.zeros_like(real)
    bce = F.binary_cross_entropy_with_logits
    r, f = real - fake.mean(), fake - real.mean()
    torch.testing.assert_close(relativistic_d(real, fake), bce(r, one) + bce(f, zero))
    torch.testing.assert_close(relativistic_g(real, fake), bce(f, one) + bce(r, zero))


def test_relativistic_losses_ignore_a_common_shift() -> None:
    real, fake = numbers(5), numbers(5, seed=1)
    torch.testing.assert_close(relativistic_d(real + 9, fake + 9), relativistic_d(real, fake))


def test_interpolation_goes_from_real_to_fake() -> None:
    real, fake = numbers(2, 3, 2, 2), numbers(2, 3, 2, 2, seed=1)
    share = torch.tensor([0.0, 1.0], dtype=torch.float64).view(2, 1, 1, 1)
    between = interpolate(real, fake, share)
    assert torch.equal(between[0], real[0])
    assert torch.equal(between[1], fake[1])


def test_the_intended_penalty_takes_one_norm_for_each_image() -> None:
    images, half = numbers(4, 3, 5, 5), torch.full((4, 1, 1, 1), 0.5, dtype=torch.float64)
    penalty = gradient_penalty_intended(quadratic, images, images, half)
    torch.testing.assert_close(penalty, (images.flatten(1).norm(dim=1) - 1) ** 2)


def test_the_released_penalty_takes_one_norm_for_each_colour_of_the_batch() -> None:
    images, half = numbers(4, 3, 5, 5), torch.full((4, 1, 1, 1), 0.5, dtype=torch.float64)
    penalty = gradient_penalty_released(quadratic, images, images, half)
    wanted = sum((images[:, c].flatten().norm() - 1) ** 2 for c in range(3))
    torch.testing.assert_close(penalty, torch.as_tensor(wanted))


def test_the_penalties_look_between_real_and_fake() -> None:
    real, fake = numbers(2, 3, 2, 2), numbers(2, 3, 2, 2, seed=1)
    share = torch.tensor([0.25, 0.75], dtype=torch.float64).view(2, 1, 1, 1)
    penalty = gradient_penalty_intended(quadratic, real, fake, share)
    between = real * (1 - share) + fake * share
    torch.testing.assert_close(penalty, (between.flatten(1).norm(dim=1) - 1) ** 2)


def test_orthogonal_weights_cost_nothing_and_others_their_distance() -> None:
    q = torch.linalg.qr(numbers(6, 6))[0]
    assert orthogonal_penalty([q, q[:3].view(3, 2, 3), q[:, :2]]).item() == pytest.approx(0, abs=1e-20)
    assert orthogonal_penalty([2 * torch.eye(3)]).item() == pytest.approx(0.5 * 3 * 3**2)


def chessboard(height: float) -> Tensor:
    """One image (1, 3, 28, 28) of 14 x 14 cells of 2 px, at +height and -height."""
    signs = (-1.0) ** torch.arange(14)
    return (height * signs[:, None] * signs).repeat_interleave(2, 0).repeat_interleave(2, 1).expand(1, 3, 28, 28)


def test_layouts_are_apart_by_the_root_mean_square_of_their_cells() -> None:
    board = chessboard(0.25)
    torch.testing.assert_close(layout_distance(torch.cat([board, board, -board, 3 * board])), torch.tensor(0.5))


def test_a_tint_is_no_layout() -> None:
    board, tint = chessboard(0.25), torch.tensor([0.3, -0.2, 0.1]).view(3, 1, 1)
    assert layout_distance(torch.cat([board, board + tint])) < 1e-3


def test_one_layout_for_all_costs_one_and_diversity_like_that_of_the_reals_nothing() -> None:
    board = chessboard(0.25)
    real, half = torch.cat([board, -board]), torch.cat([board, 0 * board])
    torch.testing.assert_close(
        diversity_penalty(real, board.expand(2, -1, -1, -1)), torch.tensor(1.0), rtol=0, atol=1e-3
    )
    torch.testing.assert_close(diversity_penalty(real, half), torch.tensor(0.25))  # half as far: (1 - 1/2)^2
    assert diversity_penalty(real, real) == 0
    assert diversity_penalty(half, real) == 0  # more than the reals' costs nothing either


def test_the_diversity_penalty_drives_equal_images_apart() -> None:
    fake = (
        chessboard(0.25)
        .repeat(2, 1, 1, 1)
        .add(1e-4 * torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0)))
    )
    fake.requires_grad_()
    real = torch.cat([chessboard(0.25), -chessboard(0.25)])
    (gradient,) = torch.autograd.grad(diversity_penalty(real, fake), fake)
    with torch.no_grad():
        assert layout_distance(fake - 0.01 * gradient / gradient.abs().max()) > layout_distance(fake)
