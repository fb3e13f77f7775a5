"""A run: networks, optimisers and counters, one step at a time, and all of it as a `State`."""

from __future__ import annotations

import copy
from collections import Counter
from contextlib import nullcontext
from dataclasses import asdict
from math import ceil, floor
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from histoforensics.slides import CheckpointError, require

from .ada import Adaptive
from .checkpoints import State, adam_tensors, fill_adam, fill_module, module_tensors
from .compiling import Compiled, check_compiler
from .config import TrainConfig
from .data import CropSource
from .families import FAMILIES
from .phases import Average, Phase, Players, Round, lazy_correction, phases_of
from .sampling import stream
from .team import MovingBuffers, Team
from .warmstart import inherit_discriminator, inherit_generator, settle

ROLES: tuple[Literal["G", "D"], ...] = ("G", "D")
_INIT, _STEP, _NOISE = 10, 11, 12  # streams of random numbers


class Run:
    """One training run at some step; `step` makes the next one.

    Args:
        data: Crops of the network's resolution.
        config: What the run is.
        device: Where the networks live.
    """

    def __init__(self, data: CropSource, config: TrainConfig, device: torch.device) -> None:
        self.data, self.config, self.device = data, config, device
        if config.compile:
            check_compiler(device)
        self.phases = phases_of(config)
        self.steps = self.images = self.read_images = self.lead = 0
        self.lod = config.lod(0)
        self.players = self._new_players()
        self.skipped: Counter[str] = Counter()
        self.team = Team.current()
        self._check_parts()
        self.adams = self._new_adams()

    def step(self) -> dict[str, float]:
        """One pass through the phases on one batch; returns the loss of each phase that ran."""
        self._follow_schedule()
        self._cool()
        batch = self.config.batch_size(self.lod)
        real = self._real(batch)
        losses = {}
        for number, phase in enumerate(self.phases):
            if isinstance(phase, Average):
                self._average(batch)
            elif self.steps % phase.interval == 0:
                losses[phase.name] = self._update(phase, number, real)
        self.steps += 1
        self.images += batch
        self._adapt(batch)
        return losses

    def state(self) -> State:
        """All that makes the next step."""
        players = self.players
        tensors = module_tensors("G", players.G) | module_tensors("D", players.D)
        if players.G_ema is not players.G:
            tensors |= module_tensors("G_ema", players.G_ema)
        tensors |= adam_tensors("adam_G", self.adams["G"]) | adam_tensors("adam_D", self.adams["D"])
        tensors["path_mean"] = players.path_mean
        values = {
            "steps": self.steps, "images": self.images, "read_images": self.read_images, "lead": self.lead,
            "lod": self.lod, "skipped": dict(self.skipped), "adaptive": asdict(players.adaptive),
        }  # fmt: skip
        return State(tensors, values)

    def restore(self, state: State) -> None:
        """Become the run whose `state` this is.

        Raises:
            CheckpointError: The state is of another run or damaged.
        """
        values = state.values
        try:
            self.steps, self.images = int(values["steps"]), int(values["images"])
            self.read_images, self.lead = int(values["read_images"]), int(values["lead"])
            self.lod, self.skipped = float(values["lod"]), Counter(values["skipped"])
            path_mean = state.tensors["path_mean"].to(self.device)
            adaptive = Adaptive(**values.get("adaptive", {}))  # states from before it have none, and none was used
        except (KeyError, TypeError, ValueError) as err:
            raise CheckpointError(f"the saved state is damaged: {err}; delete it to begin again.") from err
        self.players = players = self._new_players()  # of the size that the run had grown to
        self.adams = self._new_adams()
        players.path_mean, players.adaptive = path_mean, adaptive
        fill_module("G", players.G, state)
        fill_module("D", players.D, state)
        if players.G_ema is not players.G:
            fill_module("G_ema", players.G_ema, state)
        fill_adam("adam_G", self.adams["G"], state)
        fill_adam("adam_D", self.adams["D"], state)

    def hurry(self, share: float) -> None:
        """Be at least so far (0 to 1) on the way to full size: a budget of seconds must not end half-grown."""
        growth = self.config.growth
        if growth is not None:
            due = round(min(share, 1.0) * growth.images(self.config.resolution))
            self.lead = max(self.lead, due - self.images)

    def _follow_schedule(self) -> None:
        growth = self.config.growth
        if growth is None:
            return
        if self.steps % growth.reread_steps == 0:
            self.read_images = self.images + self.lead
        before, self.lod = self.lod, self.config.lod(self.read_images)
        if (floor(self.lod), ceil(self.lod)) != (floor(before), ceil(before)):
            if self.config.network_at(self.lod) != self.config.network_at(before):
                self._enlarge()
            self.adams = self._new_adams()  # other layers take part: their moments would mislead

    def _cool(self) -> None:
        """Give both Adams the learning rates of this step."""
        factor = self.config.cooled(self.images)
        rates = dict(zip(ROLES, self.config.learning_rates(self.lod), strict=True))
        for which in ROLES:
            for group in self.adams[which].param_groups:
                group["lr"] = rates[which] * lazy_correction(self.config, which) * factor

    def _enlarge(self) -> None:
        small = self.players
        self.players = large = self._new_players()
        large.path_mean, large.adaptive = small.path_mean, small.adaptive
        inherit_generator(large.G, small.G)
        inherit_discriminator(large.D, small.D)
        settle(large.G)
        settle(large.D)
        if large.G_ema is not large.G:
            inherit_generator(large.G_ema, large.G)
            inherit_generator(large.G_ema, small.G_ema)

    def _new_players(self) -> Players:
        config, seed = self.config, stream(self.config.seed, _INIT, int(self.lod))
        G, D = FAMILIES[config.family].build(config.network_at(self.lod), seed)
        G, D = G.to(self.device).train(), D.to(self.device).train()
        average = G if config.ema_kimg is None else copy.deepcopy(G).eval().requires_grad_(False)
        compiled = Compiled(G, D) if config.compile else None
        return Players(G, D, average, torch.zeros((), device=self.device), compiled=compiled)

    def _new_adams(self) -> dict[Literal["G", "D"], torch.optim.Adam]:
        rates = dict(zip(ROLES, self.config.learning_rates(self.lod), strict=True))
        return {which: self._adam(which, rates[which]) for which in ROLES}

    def _adam(self, which: Literal["G", "D"], rate: float) -> torch.optim.Adam:
        network = self.players.G if which == "G" else self.players.D
        c = lazy_correction(self.config, which)
        first, second = self.config.betas
        return torch.optim.Adam(network.parameters(), lr=rate * c, betas=(first**c, second**c), eps=1e-8, fused=True)

    def _real(self, batch: int) -> Tensor:
        """The step's real images (n, 3, r, r) in the generator's range, as large as the networks are now."""
        crops = self.data.draw(self.config.seed, self.images, batch, self.config.orientations)
        values = torch.from_numpy(crops).permute(0, 3, 1, 2).to(self.device, torch.float32)
        G = self.players.G
        if G.resolution < self.config.resolution:
            values = F.avg_pool2d(values, self.config.resolution // G.resolution).round()
        elif self.lod > 0:
            values = fade_real(values, self.lod)
        low, high = G.value_range
        return values * ((high - low) / 255) + low

    def _update(self, phase: Phase, number: int, real: Tensor) -> float:
        adam, players = self.adams[phase.updates], self.players
        players.G.requires_grad_(phase.updates == "G")
        players.D.requires_grad_(phase.updates == "D")
        adam.zero_grad(set_to_none=True)
        parts = torch.split(real, self.config.micro_batch or len(real))
        buffers = MovingBuffers(players) if len(parts) > 1 else None
        total = torch.zeros((), dtype=torch.float64)
        before = players.adaptive.signs, players.adaptive.count
        for part in range(self.team.rank, len(parts), self.team.size):
            if buffers is not None:
                buffers.rewind()
            images = parts[part]
            now = Round(
                real=images[: max(len(images) // phase.divisor, 1)],
                rng=torch.Generator().manual_seed(stream(self.config.seed, _STEP, self.steps, number, part)),
                noise=torch.Generator(self.device).manual_seed(
                    stream(self.config.seed, _NOISE, self.steps, number, part)
                ),
                lod=self.lod if self.config.family == "stylegan" else 0.0,
            )
            is_reduced = self.config.precision == "bf16" and not phase.is_double
            compiled = nullcontext() if phase.is_double or players.compiled is None else players.compiled.entered()
            with compiled, torch.autocast(self.device.type, torch.bfloat16, enabled=is_reduced):
                loss = phase.loss(players, now, self.config) / len(parts)
            (loss * phase.weight).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
            if buffers is not None:
                buffers.collect(1 / len(parts))
        gradients = [p.grad for group in adam.param_groups for p in group["params"] if p.grad is not None]
        if buffers is not None:
            self.team.sum_([*gradients, *buffers.sums])
            buffers.settle()
        self._share(total, before)
        if all_finite(gradients):
            adam.step()
        else:
            self.skipped[phase.name] += 1
        return float(total)

    def _share(self, total: Tensor, before: tuple[int, int]) -> None:
        """Add up the loss, and the signs seen since ``before``, over the processes."""
        adaptive = self.players.adaptive
        seen = torch.tensor([adaptive.signs - before[0], adaptive.count - before[1]], dtype=torch.float64)
        self.team.sum_([total, seen])
        adaptive.signs, adaptive.count = before[0] + int(seen[0]), before[1] + int(seen[1])

    def _adapt(self, batch: int) -> None:
        """Move the chance of adaptive augmentation where its turn has come."""
        config = self.config
        if config.ada_target is not None and self.steps % config.ada_every == 0:
            self.players.adaptive.move(config.ada_target, batch * config.ada_every / (1000 * config.ada_kimg))

    def _check_parts(self) -> None:
        config, size = self.config, self.team.size
        for batch in (config.batch, *(number for _, number in config.batch_at)):
            parts = batch // (config.micro_batch or batch)
            wanted = f"such that {size} processes share the parts of a batch of {batch} evenly"
            require(parts % size == 0, "micro_batch", wanted, config.micro_batch)

    @torch.no_grad()
    def _average(self, batch: int) -> None:
        assert self.config.ema_kimg is not None
        half_life = self.config.ema_kimg * 1000
        if self.config.ema_ramp is not None:
            half_life = min(half_life, self.config.ema_ramp * self.images)
        beta = 0.5 ** (batch / max(half_life, 1e-8))
        players = self.players
        torch._foreach_lerp_(list(players.G_ema.parameters()), list(players.G.parameters()), 1 - beta)
        for copied, buffer in zip(players.G_ema.buffers(), players.G.buffers(), strict=True):
            copied.copy_(buffer)


def fade_real(images: Tensor, lod: float) -> Tensor:
    """Real images of 0 to 255 as a growing network sees them at ``lod``, at full size.

    Halved by 2 x 2 means floor(lod) times and rounded, as the published data files hold them; then blended with their
    own next halving by the fraction of ``lod``; then repeated to full size.
    """
    if lod == 0:
        return images
    whole, share = int(lod), lod - int(lod)
    if whole:
        images = F.avg_pool2d(images, 2**whole).round()
    if share:
        coarse = F.interpolate(F.avg_pool2d(images, 2), scale_factor=2.0, mode="nearest")
        images = images.lerp(coarse, share)
    return F.interpolate(images, scale_factor=float(2**whole), mode="nearest") if whole else images


def all_finite(gradients: list[Tensor]) -> bool:
    """No gradient holds a NaN or an infinity."""
    return not gradients or bool(torch.nn.utils.get_total_norm(gradients).isfinite())
