"""The phases of a training step: which network learns, how often, from which loss, in which order.

The three families share one loop; they differ only in this ordered list::

    StyleGAN       D (with R1), EMA, G
    StyleGAN2      G, G-path, EMA, D, D-r1
    PathologyGAN   D (with its gradient penalty), G at every fifth step

A lazy phase runs every `interval` steps, its loss weighted by `interval`, on the same Adam moments as the main phase;
its learning rate and betas are corrected for the extra steps (Karras et al. 2020, appendix B).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from .ada import Adaptive, ada_augment
from .augment import diff_augment
from .compiling import Compiled
from .config import TrainConfig
from .families import Discriminator, Generator
from .losses import (
    diversity_penalty,
    gradient_penalty_intended,
    gradient_penalty_released,
    logistic_d,
    nonsaturating_g,
    orthogonal_penalty,
    path_length,
    path_length_penalty,
    r1_penalty,
    relativistic_d,
    relativistic_g,
)
from .mapping import mix_styles
from .pathologygan import orthogonal_weights
from .stylegan import StyleGANDiscriminator, StyleGANGenerator


@dataclass
class Players:
    """The networks of a run, the running mean of the path length, and adaptive augmentation."""

    G: Generator
    D: Discriminator
    G_ema: Generator
    path_mean: Tensor  # scalar
    adaptive: Adaptive = field(default_factory=Adaptive)
    compiled: Compiled | None = None  # the blocks of G and D, where the run compiles


@dataclass
class Round:
    """What one gradient computation sees: real images in the generator's value range, and its own random numbers."""

    real: Tensor  # (n, 3, r, r)
    rng: torch.Generator  # CPU: latents, mixing, augmentation
    noise: torch.Generator  # on the networks' device
    lod: float


@dataclass(frozen=True)
class Phase:
    """One optimizer step: every ``interval`` steps, on a ``divisor`` times smaller batch, its loss times ``weight``."""

    name: str
    updates: Literal["G", "D"]
    loss: Callable[[Players, Round, TrainConfig], Tensor]
    interval: int = 1
    divisor: int = 1
    weight: float = 1.0
    is_double: bool = False  # differentiates a gradient: no reduced precision, no compiled graph


@dataclass(frozen=True)
class Average:
    """The place in the order where the averaged generator follows G."""

    name: str = "ema"


def phases_of(config: TrainConfig) -> tuple[Phase | Average, ...]:
    """The ordered phases of a run."""
    average = () if config.ema_kimg is None else (Average(),)
    if config.family == "pathologygan":
        generator = Phase("G", "G", g_relativistic, interval=config.g_every)
        return (
            Phase("D", "D", d_relativistic, is_double=config.gradient_penalty > 0),
            *_lazy_r1(config),
            generator,
            *average,
        )
    within = config.r1_gamma > 0 and config.r1_every == 1
    d = Phase("D", "D", d_logistic_r1 if within else d_logistic, is_double=within)
    g = Phase("G", "G", g_logistic, interval=config.g_every)
    if config.family == "stylegan":
        return (d, *_lazy_r1(config), *average, g)
    return (g, *_lazy_path(config), *average, d, *_lazy_r1(config))


def lazy_correction(config: TrainConfig, updates: Literal["G", "D"]) -> float:
    """The factor k / (k + 1) for the network whose regulariser runs every k > 1 steps on shared moments, else 1."""
    for phase in phases_of(config):
        if isinstance(phase, Phase) and phase.updates == updates and phase.name in ("G-path", "D-r1"):
            return phase.interval / (phase.interval + 1)
    return 1.0


def g_logistic(players: Players, now: Round, config: TrainConfig) -> Tensor:
    """Non-saturating logistic loss of G."""
    images, _ = generate(players, now, config, len(now.real))
    return nonsaturating_g(judge(players, images, now, config)).mean() + _diversity(now.real, images, config)


def g_path(players: Players, now: Round, config: TrainConfig) -> Tensor:
    """Path length penalty (Karras et al. 2020, eq. 4); moves the running mean of the length."""
    ws = _styles(players, now, config, len(now.real))
    noise = torch.randn(now.real.shape, generator=now.noise, device=now.real.device)
    lengths = path_length(lambda w: _synthesis(players, w, now), ws, noise)
    penalty, mean = path_length_penalty(lengths, players.path_mean, config.path_decay)
    # One bad batch must not poison the mean for good: its step is skipped, so its length is forgotten too.
    players.path_mean = torch.where(mean.isfinite(), mean, players.path_mean)
    return config.path_weight * penalty.mean()


def d_logistic(players: Players, now: Round, config: TrainConfig) -> Tensor:
    """Logistic loss of D."""
    fake = _fake_for_d(players, now, config)
    real_logits, fake_logits = judge(players, now.real, now, config), judge(players, fake, now, config)
    players.adaptive.see(real_logits)
    return logistic_d(real_logits, fake_logits).mean()


def d_logistic_r1(players: Players, now: Round, config: TrainConfig) -> Tensor:
    """Logistic loss of D with R1 at every step, as StyleGAN was trained."""
    return d_logistic(players, now, config) + d_r1(players, now, config)


def d_r1(players: Players, now: Round, config: TrainConfig) -> Tensor:
    """R1: gamma / 2 times the squared gradient of D at the reals, mean over the batch."""
    squared = r1_penalty(lambda images: judge(players, images, now, config), now.real)
    return 0.5 * config.r1_gamma * squared.mean()


def d_relativistic(players: Players, now: Round, config: TrainConfig) -> Tensor:
    """PathologyGAN's D: relativistic average loss and its gradient penalty between real and fake."""
    fake = _fake_for_d(players, now, config)
    real_logits, fake_logits = judge(players, now.real, now, config), judge(players, fake, now, config)
    players.adaptive.see(real_logits - fake_logits.mean())  # relativistic logits have no zero of their own
    loss = relativistic_d(real_logits, fake_logits)
    if config.gradient_penalty:
        share = torch.rand(len(fake), 1, 1, 1, generator=now.rng).to(fake)
        penalty = gradient_penalty_released if config.is_released else gradient_penalty_intended
        between = penalty(lambda images: judge(players, images, now, config), now.real, fake, share)
        loss = loss + config.gradient_penalty * between.mean()
    return loss + _orthogonal(players.D, config)


def g_relativistic(players: Players, now: Round, config: TrainConfig) -> Tensor:
    """PathologyGAN's G: the relativistic loss with real and fake exchanged."""
    images, _ = generate(players, now, config, len(now.real))
    with torch.no_grad():
        real = judge(players, now.real, now, config)
    loss = relativistic_g(real, judge(players, images, now, config))
    return loss + _orthogonal(players.G, config) + _diversity(now.real, images, config)


def generate(players: Players, now: Round, config: TrainConfig, count: int) -> tuple[Tensor, Tensor]:
    """``count`` images (n, 3, r, r) from fresh latents, and their styles (n, num_ws, w_dim)."""
    ws = _styles(players, now, config, count)
    return _synthesis(players, ws, now), ws


def judge(players: Players, images: Tensor, now: Round, config: TrainConfig) -> Tensor:
    """D's logits (n,) of augmented images; real and fake go through the same augmentations."""
    low, high = players.G.value_range
    images = diff_augment(images, config.diff_augment, now.rng, fill=(low + high) / 2)
    if config.ada_target is not None:
        images = ada_augment(images, players.adaptive.chance, now.rng, (low, high))
    D = players.D
    logits: Tensor = D(images, lod=now.lod) if isinstance(D, StyleGANDiscriminator) else D(images)
    return logits.float()


def _fake_for_d(players: Players, now: Round, config: TrainConfig) -> Tensor:
    with torch.no_grad():
        return generate(players, now, config, len(now.real))[0]


def _styles(players: Players, now: Round, config: TrainConfig, count: int) -> Tensor:
    G = players.G
    z = torch.randn(2, count, G.z_dim, generator=now.rng).to(now.real.device)
    ws = G.styles(z[0])
    used = G.num_ws - 2 * int(now.lod)
    # Both are drawn in any case, so that the stream of numbers does not depend on the outcome.
    mixes = float(torch.rand((), generator=now.rng)) < config.style_mixing
    cut = int(torch.randint(1, max(used, 2), (), generator=now.rng))
    if not mixes:
        return ws
    return mix_styles(ws, G.mapping(z[1])[:, None].expand_as(ws), cut)  # the second latents stay out of w_avg


def _synthesis(players: Players, ws: Tensor, now: Round) -> Tensor:
    G = players.G
    if isinstance(G, StyleGANGenerator):
        images: Tensor = G.synthesis(ws, noise="random", rng=now.noise, lod=now.lod)
    else:
        images = G.synthesis(ws, noise="random", rng=now.noise)
    return images


def _lazy_r1(config: TrainConfig) -> tuple[Phase, ...]:
    if config.r1_gamma == 0 or (config.r1_every == 1 and config.family != "pathologygan"):
        return ()
    return (Phase("D-r1", "D", d_r1, interval=config.r1_every, weight=config.r1_every, is_double=True),)


def _lazy_path(config: TrainConfig) -> tuple[Phase, ...]:
    if config.path_weight == 0:
        return ()
    every = config.path_every
    return (Phase("G-path", "G", g_path, interval=every, divisor=config.path_shrink, weight=every, is_double=True),)


def _diversity(real: Tensor, fake: Tensor, config: TrainConfig) -> Tensor | float:
    return config.diversity * diversity_penalty(real, fake) if config.diversity else 0.0


def _orthogonal(network: Generator | Discriminator, config: TrainConfig) -> Tensor | float:
    if config.orthogonal == 0:
        return 0.0
    return config.orthogonal * orthogonal_penalty(orthogonal_weights(network))
