from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from histoforensics.generators.resample import shifted_sum
from histoforensics.generators.spectral import (
    SpectralConv2d,
    SpectralDown,
    SpectralLinear,
    SpectralUp,
    SpectralWeight,
    power_iteration,
)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def normal(weight: Tensor) -> Tensor:
    return torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(5))


def settled(weight: SpectralWeight, steps: int = 200) -> SpectralWeight:
    for _ in range(steps):
        weight()
    return weight


def test_power_iteration_finds_the_largest_singular_value() -> None:
    matrix, u = numbers(7, 12), numbers(7, seed=1)
    for _ in range(300):
        sigma, u = power_iteration(matrix, u)
    np.testing.assert_allclose(sigma.item(), np.linalg.svd(matrix.numpy())[1][0], rtol=1e-10)


def test_a_settled_weight_has_a_largest_singular_value_of_one() -> None:
    weight = settled(SpectralWeight((6, 4, 3, 3), init=normal))()
    np.testing.assert_allclose(np.linalg.svd(weight.detach().flatten(1).numpy())[1][0], 1, rtol=1e-5)


def test_it_is_the_effective_kernel_that_is_normalised() -> None:
    weight = settled(SpectralWeight((6, 4, 2, 2), effective=shifted_sum, init=normal))()
    assert weight.shape == (6, 4, 3, 3)
    np.testing.assert_allclose(np.linalg.svd(weight.detach().flatten(1).numpy())[1][0], 1, rtol=1e-5)


def test_the_kernel_of_an_enlargement_is_a_matrix_of_its_inputs_against_the_rest() -> None:
    up = SpectralUp(3, 5)
    assert up.spectral.u.shape == (3,)
    kernel = settled(up.spectral)().detach()
    matrix = kernel.permute(2, 3, 1, 0).reshape(-1, 3)  # (k * k * outputs, inputs), as the published code has it
    np.testing.assert_allclose(np.linalg.svd(matrix.numpy())[1][0], 1, rtol=1e-5)


def test_every_training_call_moves_u_and_no_evaluation_does() -> None:
    weight = SpectralWeight((6, 9), init=normal).train()
    with torch.no_grad():
        before = weight.u.clone()
        weight()
        once = weight.u.clone()
        weight()
    assert not torch.equal(before, once)
    assert not torch.equal(once, weight.u)
    weight.eval()
    stored = weight.u.clone()
    assert torch.equal(weight(), weight())
    assert torch.equal(weight.u, stored)


def test_two_calls_before_one_backward_are_allowed() -> None:
    layer = SpectralLinear(4, 3)
    x = torch.ones(2, 4)
    (layer(x) + layer(2 * x)).sum().backward()
    assert layer.spectral.weight.grad is not None


def test_gradients_flow_through_the_vectors() -> None:
    """Central differences of the whole of it, u and v too; with u and v held still the gradient is another one."""
    weight, u = numbers(5, 8).requires_grad_(), numbers(5, seed=1)
    probe = numbers(5, 8, seed=2)

    def used(w: Tensor) -> Tensor:
        return w / power_iteration(w, u)[0]

    assert torch.autograd.gradcheck(used, weight)
    ours = torch.autograd.grad((used(weight) * probe).sum(), weight)[0]
    v = F.normalize(u @ weight.detach(), dim=0)
    still = F.normalize(weight.detach() @ v, dim=0)
    theirs = torch.autograd.grad((weight / (still @ weight @ v) * probe).sum(), weight)[0]
    assert (ours - theirs).norm() / theirs.norm() > 0.01


def test_settled_vectors_give_the_same_gradient_either_way() -> None:
    weight, u, probe = numbers(5, 8).requires_grad_(), numbers(5, seed=1), numbers(5, 8, seed=2)
    with torch.no_grad():
        for _ in range(500):
            u = power_iteration(weight, u)[1]
    ours = torch.autograd.grad((weight / power_iteration(weight, u)[0] * probe).sum(), weight)[0]
    v = F.normalize(u @ weight.detach(), dim=0)
    theirs = torch.autograd.grad((weight / (u @ weight @ v) * probe).sum(), weight)[0]
    torch.testing.assert_close(ours, theirs)


def test_spectral_layers_differentiate_twice() -> None:
    weight, u = numbers(3, 4).requires_grad_(), numbers(3, seed=1)
    assert torch.autograd.gradgradcheck(lambda w: w / power_iteration(w, u)[0], weight)


def test_dense_and_convolution_use_the_normalised_weight() -> None:
    dense, conv = SpectralLinear(6, 4).eval(), SpectralConv2d(3, 4, 3).eval()
    torch.nn.init.normal_(dense.bias)
    torch.nn.init.normal_(conv.bias)
    x, image = numbers(2, 6).float(), numbers(2, 3, 5, 5).float()
    torch.testing.assert_close(dense(x), x @ dense.spectral().T + dense.bias)
    torch.testing.assert_close(conv(image), F.conv2d(image, conv.spectral(), padding=1) + conv.bias[:, None, None])


def test_the_first_weights_are_orthogonal() -> None:
    matrix = SpectralConv2d(4, 6, 3).spectral.weight.flatten(1)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(6), atol=1e-5, rtol=0)


def test_reduction_pads_one_before_and_two_after() -> None:
    down = SpectralDown(1, 1).eval()
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 4, 2] = 1
    kernel = down.spectral()[0, 0]
    wanted = torch.zeros(4, 4)
    for y in range(4):
        for x in range(4):
            i, j = 4 - (2 * y - 1), 2 - (2 * x - 1)  # where in the 5 x 5 kernel the pixel falls
            if 0 <= i < 5 and 0 <= j < 5:
                wanted[y, x] = kernel[i, j]
    torch.testing.assert_close(down(image)[0, 0], wanted)


def test_enlargement_keeps_the_top_left_of_the_transposed_convolution() -> None:
    up = SpectralUp(1, 1).eval()
    image = torch.zeros(1, 1, 3, 3)
    image[0, 0, 2, 1] = 1
    wanted = torch.zeros(7, 7)
    wanted[4:7, 2:5] = up.spectral()[0, 0]
    torch.testing.assert_close(up(image)[0, 0], wanted[:6, :6])


@pytest.mark.parametrize("k", [2, 4])
def test_the_shifted_sum_is_convolution_with_two_by_two_ones(k: int) -> None:
    weight = numbers(2, 3, k, k)
    wanted = F.conv2d(weight.flatten(0, 1)[:, None], torch.ones(1, 1, 2, 2, dtype=torch.float64), padding=1)
    torch.testing.assert_close(shifted_sum(weight), wanted.view(2, 3, k + 1, k + 1))


def test_sampling_normalises_a_weight_once_and_again_when_it_changes():
    layer = SpectralLinear(5, 4).eval()
    with torch.no_grad():
        first = layer.spectral()
        assert layer.spectral() is first
        layer.spectral.weight.mul_(torch.arange(1.0, 6.0))
        changed = layer.spectral()
        assert not torch.equal(changed, first)
        layer.spectral.u.copy_(torch.ones(4))
        assert not torch.equal(layer.spectral(), changed)
    assert layer.spectral().requires_grad
