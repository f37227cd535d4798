"""Memory that a step frees is the next step's: on a CPU, giving it back costs time again and again."""

from __future__ import annotations

import ctypes
import os
from typing import Any

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""M_TRIM_THRESHOLD and M_MMAP_MAX of glibc's malloc.h."""
_OF_THE_USER = ("MALLOC_MMAP_", "MALLOC_TRIM_")


def keep_freed_memory() -> bool:
    """Let glibc's malloc keep what is freed, for the rest of the process; whether it was told to.

    A training step allocates and frees the same activations again and again. glibc gives blocks larger than
    a moving threshold (at most 32 MiB) back to the kernel at once, which fills each page with zeros when the
    next step asks for it. Kept, blocks of many sizes share one heap, which is larger than their sum at any
    moment. A step's numbers stay what they are.

    Nothing changes where there is no glibc (macOS, musl, Windows) or another malloc is loaded over it, or
    where the user has set one of these two thresholds (MALLOC_MMAP_*, MALLOC_TRIM_*, or glibc.malloc.* in
    GLIBC_TUNABLES). Source: mallopt(3).
    """
    if any(name.startswith(_OF_THE_USER) for name in os.environ):
        return False
    if "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    mallopt = _of_libc("mallopt")
    return mallopt is not None and bool(mallopt(_TRIM_THRESHOLD, -1)) and bool(mallopt(_MMAP_MAX, 0))


def give_back_freed_memory() -> None:
    """Give the kernel what is kept, where other sizes are wanted from here on; malloc_trim(3) of glibc."""
    if (malloc_trim := _of_libc("malloc_trim")) is not None:
        malloc_trim(0)


def _of_libc(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):  # TypeError: Windows has no library without a name
        return None
