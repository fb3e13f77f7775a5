"""Several processes that train one run: what each of them does, and what they tell each other.

A batch is made of parts (`micro_batch`). Process r of N takes the parts r, r + N, ..., with the random numbers that
each part has in any case, and gradients are summed. So N processes take the steps that one process with the same
micro_batch takes, up to the order of sums. What compares the samples of a batch (minibatch standard deviation,
relativistic means, PathologyGAN's penalty) does so within a part, wherever the part is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from .phases import Players

MOVING = ("w_avg", "u")  # names of the buffers that a forward pass moves


@dataclass(frozen=True)
class Team:
    """The place of a process among those that train together; alone it talks to nobody."""

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> Team:
        """The place in the initialised process group of `torch.distributed`; alone where there is none."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def is_first(self) -> bool:
        """The one that writes the run's files and tells of its progress."""
        return self.rank == 0

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the processes, in one exchange; all must pass equal shapes."""
        if self.size == 1 or not tensors:
            return
        whole = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(whole)
        pieces = torch.split(whole, [tensor.numel() for tensor in tensors])
        for tensor, summed in zip(tensors, pieces, strict=True):
            tensor.copy_(summed.view_as(tensor))

    def agreed(self, value: float) -> float:
        """The first process's ``value``: clocks differ, and all must decide alike."""
        if self.size == 1:
            return value
        told = torch.tensor([value], dtype=torch.float64)
        dist.broadcast(told, 0)
        return float(told)

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.size > 1:
            dist.barrier()


class MovingBuffers:
    """What a forward pass moves in training: the means of w, spectral vectors, the mean path length.

    Every part of a batch begins with what the step found, and the step leaves the mean over the parts: whatever the
    number of parts and of processes, they move as they would with the batch as a whole.
    """

    def __init__(self, players: Players) -> None:
        self.players = players
        networks = (players.G, players.D)
        self.buffers = [b for net in networks for name, b in net.named_buffers() if name.split(".")[-1] in MOVING]
        self.before = [buffer.clone() for buffer in self._values()]
        self.sums = [torch.zeros_like(buffer) for buffer in self.before]

    def rewind(self) -> None:
        """Put back what the step found."""
        self._put(self.before)

    def collect(self, share: float) -> None:
        """Add what a part has made of it, weighted by its ``share`` of the batch."""
        with torch.no_grad():
            for total, buffer in zip(self.sums, self._values(), strict=True):
                total.add_(buffer, alpha=share)

    def settle(self) -> None:
        """Put the mean in place."""
        self._put(self.sums)

    def _values(self) -> list[Tensor]:
        return [*self.buffers, self.players.path_mean]

    def _put(self, values: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for buffer, value in zip(self.buffers, values, strict=False):
                buffer.copy_(value)
        self.players.path_mean = values[-1].clone()
