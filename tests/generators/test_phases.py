"""The order of the phases, the corrected Adam, and each loss on networks whose answer is known."""

import math

import pytest
import torch

from histoforensics.generators import preset
from histoforensics.generators.phases import (
    Average,
    Players,
    Round,
    d_logistic,
    d_r1,
    d_relativistic,
    g_logistic,
    g_path,
    g_relativistic,
    lazy_correction,
    phases_of,
)
from histoforensics.generators.run import Run


def names(config):
    return [(phase.name, getattr(phase, "interval", None)) for phase in phases_of(config)]


def test_phases_come_in_the_published_order():
    assert names(preset("stylegan", "paper")) == [("D", 1), ("ema", None), ("G", 1)]
    assert names(preset("stylegan2", "paper")) == [("G", 1), ("G-path", 4), ("ema", None), ("D", 1), ("D-r1", 16)]
    assert names(preset("pathologygan", "paper")) == [("D", 1), ("G", 5)]


def test_a_lazy_phase_weighs_as_much_as_it_is_rare():
    lazy = {phase.name: phase for phase in phases_of(preset("stylegan2", "paper")) if not isinstance(phase, Average)}
    assert (lazy["D-r1"].weight, lazy["G-path"].weight, lazy["G-path"].divisor) == (16, 4, 2)


def test_no_phase_that_differentiates_a_gradient_is_open_to_reduced_precision():
    for family in ("stylegan", "stylegan2", "pathologygan"):
        for phase in phases_of(preset(family, "paper")):
            if phase.name in ("G-path", "D-r1") or (family != "stylegan2" and phase.name == "D"):
                assert phase.is_double


def test_the_corrected_adam_has_the_published_constants(pictures, tiny_config):
    config = preset("stylegan2", "paper")
    g, d = lazy_correction(config, "G"), lazy_correction(config, "D")
    assert 0.002 * g == pytest.approx(0.0016)
    assert 0.002 * d == pytest.approx(0.00188235, rel=1e-5)
    assert (0.99**g, 0.99**d) == pytest.approx((0.991992, 0.990585), abs=1e-6)
    for family in ("stylegan", "pathologygan"):
        assert lazy_correction(preset(family, "paper"), "G") == lazy_correction(preset(family, "paper"), "D") == 1


def test_the_averaged_generator_follows_with_the_published_half_life(pictures, tiny_config):
    for batch, beta in ((8, 0.999446), (32, 0.997784), (128, 0.991167)):
        run = Run(pictures(16), tiny_config("stylegan2", ema_ramp=None, batch=8, micro_batch=None), torch.device("cpu"))
        mean, now = next(run.players.G_ema.parameters()), next(run.players.G.parameters())
        with torch.no_grad():
            mean.zero_()
            now.fill_(1.0)
        run._average(batch)
        assert mean.flatten()[0].item() == pytest.approx(1 - beta, abs=2e-6)


class LinearD(torch.nn.Module):
    """Logit = <a, x>."""

    def __init__(self, a):
        super().__init__()
        self.a = a

    def forward(self, images):
        return (images * self.a).sum((1, 2, 3))


class ConstantG(torch.nn.Module):
    """Each image is a fixed linear function of the sum of its styles."""

    value_range, z_dim, num_ws, resolution = (-1.0, 1.0), 4, 2, 2

    def __init__(self, gain=0.0):
        super().__init__()
        self.gain = gain

    def styles(self, z):
        return z[:, None].expand(-1, 2, -1)

    def mapping(self, z):
        return z

    def synthesis(self, ws, noise="random", rng=None):
        return self.gain * ws.sum((1, 2))[:, None, None, None] * torch.ones(len(ws), 3, 2, 2)


def setting(a, gain=0.0, family="stylegan2", **changes):
    G = ConstantG(gain)
    players = Players(G, LinearD(a), G, torch.zeros(()))
    rng = torch.Generator().manual_seed(0)
    now = Round(real=torch.ones(4, 3, 2, 2), rng=rng, noise=torch.Generator().manual_seed(1), lod=0.0)
    return players, now, preset(family, "paper", **changes)


def test_r1_of_a_linear_discriminator_is_half_gamma_times_its_squared_norm():
    a = torch.arange(12.0).view(3, 2, 2)
    assert d_r1(*setting(a)).item() == pytest.approx(10 / 2 * a.square().sum().item())


def test_logistic_losses_at_known_logits():
    a = torch.full((3, 2, 2), 0.25)  # reals give 3, fakes of gain 0 give 0
    softplus = lambda x: math.log1p(math.exp(x))  # noqa: E731
    assert d_logistic(*setting(a)).item() == pytest.approx(softplus(0) + softplus(-3))
    assert g_logistic(*setting(a)).item() == pytest.approx(softplus(0))


def test_equal_logits_give_the_relativistic_losses_of_2_ln_2_each():
    players, now, config = setting(torch.zeros(3, 2, 2), family="pathologygan", gradient_penalty=0.0)
    assert d_relativistic(players, now, config).item() == pytest.approx(2 * math.log(2))
    assert g_relativistic(players, now, config).item() == pytest.approx(2 * math.log(2))


def test_the_released_penalty_of_a_linear_discriminator_grows_with_the_batch():
    a = torch.ones(3, 2, 2)  # a channel's norm over a batch of 4: sqrt(4 * 4) = 4
    players, now, config = setting(a, family="pathologygan")
    plain = d_relativistic(*setting(a, family="pathologygan", gradient_penalty=0.0)[:3])
    assert (d_relativistic(players, now, config) - plain).item() == pytest.approx(0.65 * 3 * (4 - 1) ** 2)


def test_path_lengths_pull_towards_their_running_mean():
    players, now, config = setting(torch.zeros(3, 2, 2), gain=1.0)
    loss = g_path(players, now, config)
    # one noise a sample: lengths |sum of noise| / sqrt(4) * sqrt(4 features); the mean moves by a hundredth
    noise = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    lengths = noise.sum((1, 2, 3)).abs() / 2 * 2
    mean = 0.01 * lengths.mean()
    assert players.path_mean.item() == pytest.approx(mean.item(), rel=1e-5)
    assert loss.item() == pytest.approx(2 * (lengths - mean).square().mean().item(), rel=1e-5)


def test_a_path_length_that_is_not_finite_does_not_poison_the_mean():
    players, now, config = setting(torch.zeros(3, 2, 2), gain=float("inf"))
    g_path(players, now, config)
    assert players.path_mean.item() == 0.0
