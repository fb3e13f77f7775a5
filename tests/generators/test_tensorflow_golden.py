"""The few TensorFlow operations whose meaning is in doubt, against TensorFlow's own output.

``golden/tensorflow_ops.npz`` was made once with tensorflow-cpu 2.21.0 (float32, CPU) on normal numbers of NumPy's
``default_rng(0)``; images and kernels are stored here as (n, c, h, w) and (outputs, inputs, k, k), transposed kernels
as (inputs, outputs, k, k). "Shifted" is the sum of four copies of a kernel, one in each corner of one larger by one.

- ``up_unfused``: pixels repeated 2 x 2, ``tf.nn.conv2d`` "SAME"; ``up_fused``: ``tf.nn.conv2d_transpose``, stride 2,
  "SAME", with the shifted kernel, its last two axes exchanged, as StyleGAN has it;
- ``down_unfused``: ``tf.nn.conv2d`` "SAME", ``tf.nn.avg_pool2d``; ``down_fused``: stride 2, the shifted kernel / 4;
- ``blur``: ``tf.nn.depthwise_conv2d`` "SAME" with [1, 2, 1];
- ``path_up``: ``tf.nn.conv2d_transpose``, stride 2, "SAME", with the shifted kernel of a stored 2 x 2 one;
  ``path_down``: ``tf.nn.conv2d``, stride 2, "SAME", with that of a stored 4 x 4 one;
- ``gp_norms``, ``gp``: ``g = tf.gradients(logits, x)`` in a ``tf.function`` for D(x) = sum(tanh(a x)), then
  ``norms = sqrt(reduce_sum(square(g), axis=[1, 2, 3]))`` and ``reduce_sum(square(norms - 1))``;
- ``norm``: ``tf.nn.batch_normalization`` with ``tf.nn.moments`` over the pixels, eps 1e-5.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from histoforensics.generators.layers import instance_norm
from histoforensics.generators.losses import gradient_penalty_intended, gradient_penalty_released
from histoforensics.generators.resample import binomial_blur, conv_mean_down, conv_nearest_up
from histoforensics.generators.spectral import SpectralDown, SpectralUp

Golden = dict[str, Tensor]


@pytest.fixture(name="golden", scope="module")
def fixture_golden() -> Golden:
    with np.load(Path(__file__).parent / "golden/tensorflow_ops.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def close(ours: Tensor, theirs: Tensor) -> bool:
    return bool((ours - theirs).abs().max() <= 1e-5 * theirs.abs().max())


def test_stylegan_enlargement_is_that_of_tensorflow(golden: Golden) -> None:
    x, weight = golden["up_x"], golden["up_w"]
    assert close(conv_nearest_up(x, weight), golden["up_unfused"])
    assert close(conv_nearest_up(x, weight, rotated=True), golden["up_fused"])


def test_tensorflow_itself_gives_two_different_enlargements(golden: Golden) -> None:
    assert (golden["up_fused"] - golden["up_unfused"]).abs().max() > 1


def test_stylegan_reduction_is_that_of_tensorflow_fused_or_not(golden: Golden) -> None:
    ours = conv_mean_down(golden["down_x"], golden["up_w"])
    assert close(ours, golden["down_unfused"])
    assert close(ours, golden["down_fused"])


def test_stylegan_blur_is_that_of_tensorflow(golden: Golden) -> None:
    assert close(binomial_blur(golden["down_x"]), golden["blur"])


def test_pathologygan_crops_and_pads_as_tensorflow(golden: Golden) -> None:
    """Up to the division by the largest singular value, which has no part in where pixels fall."""
    up, down = SpectralUp(3, 2).eval(), SpectralDown(3, 2).eval()
    for layer, name, x in ((up, "path_up", golden["up_x"]), (down, "path_down", golden["down_x"])):
        with torch.no_grad():
            layer.spectral.weight.copy_(golden[f"{name}_w"])
            stored, used = layer.spectral.effective(layer.spectral.weight), layer.spectral()
            sigma = (stored * stored).sum() / (stored * used).sum()
            assert close(layer(x) * sigma, golden[name])


def test_the_released_gradient_penalty_is_that_of_tensorflow(golden: Golden) -> None:
    x, a = golden["down_x"], golden["gp_a"]
    half = torch.full((2, 1, 1, 1), 0.5)

    def D(images: Tensor) -> Tensor:
        return torch.tanh(a * images).sum((1, 2, 3))

    assert golden["gp_norms"].shape == (1, 3)  # one a colour, where one an image was meant
    assert close(gradient_penalty_released(D, x, x, half), golden["gp"])
    assert not close(gradient_penalty_intended(D, x, x, half).mean(), golden["gp"])


def test_conditional_norm_normalises_as_tensorflow(golden: Golden) -> None:
    assert close(instance_norm(golden["down_x"], 1e-5), golden["norm"])
    assert close(F.instance_norm(golden["down_x"]), golden["norm"])
