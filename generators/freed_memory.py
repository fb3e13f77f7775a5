"""Memory that a process keeps for its next tensors instead of giving it back."""

from __future__ import annotations

import ctypes
import sys

KEPT_BLOCK_BYTES = 1 << 30  # blocks below this are kept
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_freed_memory() -> bool:
    """Let this process keep large blocks of memory that it frees, for its next tensors; whether the system can.

    glibc gives each large tensor fresh pages and takes them back with it. Having them cleared again and again costs a
    training step a tenth or more of its time, and sampling a fifth or more. Kept until the process ends: there is no
    way to ask for what was before.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "mallopt"):  # musl has none
        return False
    return bool(libc.mallopt(_M_MMAP_THRESHOLD, KEPT_BLOCK_BYTES) and libc.mallopt(_M_TRIM_THRESHOLD, KEPT_BLOCK_BYTES))
