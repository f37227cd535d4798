"""Memory that a step frees is the next step's: on a CPU, giving it back costs time again and again."""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""M_TRIM_THRESHOLD and M_MMAP_MAX of glibc's malloc.h."""
_OF_THE_USER = ("GLIBC_TUNABLES", "MALLOC_")


def keep_freed_memory() -> bool:
    """Let glibc's malloc keep what is freed, for the rest of the process; whether it does.

    A training step allocates and frees the same activations again and again. glibc gives blocks larger than
    a moving threshold (at most 32 MiB) back to the kernel at once, which fills each page with zeros when the
    next step asks for it. A step's numbers stay what they are, and the peak of the process nearly so: what
    is given back only to be asked for again was in it.

    Nothing happens where malloc is not glibc's (macOS, musl), or where GLIBC_TUNABLES or MALLOC_* are set:
    whoever sets them has chosen. Source: mallopt(3).
    """
    if any(name.startswith(_OF_THE_USER) for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # TypeError: Windows has no library of that name
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, -1))
