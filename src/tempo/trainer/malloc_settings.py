"""Keep freed memory for the next step on a CPU, since returning it to the kernel costs time at every step."""

from __future__ import annotations

import ctypes
import os
from typing import Any

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""M_TRIM_THRESHOLD and M_MMAP_MAX of glibc's malloc.h."""
_SET_BY_USER = ("MALLOC_MMAP_", "MALLOC_TRIM_")


def keep_freed_memory() -> bool:
    """Let glibc's malloc keep freed memory for the rest of the process; return whether it does.

    A training step allocates and frees the same activations again and again. glibc at once returns blocks
    larger than a moving threshold (at most 32 MiB) to the kernel, which zeroes every page when the next step
    asks for it. Keeping them makes the process larger, as blocks of many sizes share one heap. A step's
    numbers do not change.

    This does nothing without glibc (macOS, musl, Windows), with another malloc loaded over it, or if the user
    has set one of the two thresholds (MALLOC_MMAP_*, MALLOC_TRIM_*, or glibc.malloc.* in GLIBC_TUNABLES).
    Source: mallopt(3).
    """
    if any(name.startswith(_SET_BY_USER) for name in os.environ):
        return False
    if "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    mallopt = _libc_function("mallopt")
    return mallopt is not None and bool(mallopt(_TRIM_THRESHOLD, -1)) and bool(mallopt(_MMAP_MAX, 0))


def give_back_freed_memory() -> None:
    """Return kept memory to the kernel with malloc_trim(3), before blocks of other sizes are needed."""
    if (malloc_trim := _libc_function("malloc_trim")) is not None:
        malloc_trim(0)


def _libc_function(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):  # TypeError: on Windows, CDLL needs a name
        return None
