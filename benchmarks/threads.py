"""How many threads the numerical libraries use: for small networks and small matrices one is quicker than two.

Measured on 2 cores with a neighbour at work: `npr` 10 s with one thread and 40 with two, `dct-ridge` 2 and 21,
`wht-lr` 3 and 7.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Inside the block PyTorch, BLAS and OpenMP use at most ``count`` threads; afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)
