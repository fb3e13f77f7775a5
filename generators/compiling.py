"""torch.compile for training, in the phases that take no gradient of a gradient.

What is compiled are the networks' blocks, one by one: they hold nearly all of the arithmetic, and see neither how far a
growing network is, which changes at every step, nor the mapping network. Inside a block the graph breaks where noise is
drawn from a `torch.Generator`. A block runs compiled only inside of `Compiled.entered`; outside of it the networks are
what they always were, and neither names nor buffers nor copies of them know of any of this. A compiled graph has no
second derivative, so whoever differentiates a gradient stays outside.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from histoforensics.slides import ConfigError

from .families import Discriminator, Generator
from .stylegan import StyleGANGenerator

BACKEND = "inductor"  # what makes the code; tests take one that needs no compiler
# Graphs of one function, of which there is one for each block, size of batch and kind of phase. Beyond the limit
# PyTorch would silently go on without compiling, a resumed run later than one that was never stopped.
MOST_GRAPHS = 10_000


class Compiled:
    """The blocks of ``G`` and ``D`` as torch.compile makes them, each at its first call."""

    def __init__(self, G: Generator, D: Discriminator) -> None:
        # Fixed shapes: a graph for any size of batch would round differently from one for the size that a run resumes.
        self._calls = [(block, torch.compile(block.forward, backend=BACKEND, dynamic=False)) for block in blocks(G, D)]

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Inside, the blocks run compiled; what is computed there may be differentiated once, also outside."""
        import torch._dynamo
        import torch._functorch.config

        limits = {"recompile_limit": MOST_GRAPHS, "accumulated_recompile_limit": MOST_GRAPHS}
        for block, call in self._calls:
            block.forward = call
        try:
            with torch._dynamo.config.patch(limits), torch._functorch.config.patch({"backward_pass_autocast": "off"}):
                yield
        finally:
            for block, _ in self._calls:
                del block.forward


def blocks(G: Generator, D: Discriminator) -> list[nn.Module]:
    """The parts of both networks that are compiled."""
    parts = [G.synthesis.get_submodule("blocks"), D.blocks]
    first = [G.synthesis.get_submodule("first")] if isinstance(G, StyleGANGenerator) else []
    return [*first, *(block for part in parts for block in part.children())]


def check_compiler(device: torch.device) -> None:
    """Try torch.compile on a line of arithmetic, so that a run does not end in the middle for want of a compiler.

    Raises:
        ConfigError: It does not work for ``device``.
    """
    import torch._functorch.config
    import torch._inductor.config

    def line(x: Tensor) -> Tensor:
        return x.sin() + 1

    anew = torch._inductor.config.patch({"fx_graph_cache": False})  # what lies on the disk needs no compiler
    try:
        with anew, torch._functorch.config.patch({"enable_autograd_cache": False}):
            torch.compile(line, backend=BACKEND, dynamic=False)(torch.ones(16, device=device))
    except RuntimeError as err:
        needs = "a C++ compiler such as g++" if device.type == "cpu" else "Triton and a C compiler such as gcc"
        reason = str(err).strip().splitlines()[0]
        raise ConfigError(
            f"compile: torch.compile does not work here ({reason}); on {device.type} it needs {needs}: install it, "
            f"or train without --compile."
        ) from err
