"""Compare what decoded images need with the free memory or disk, before anything is decoded."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from tempo.errors import UserError

_GIGA = 1e9
_SPLIT_COPIES = 1.3
"""Memory at the peak per byte of pixels: cutting test and validation images off copies them once."""
_LEFT_FREE_BYTES = 1 << 28


def check_memory(shape: tuple[int, ...]) -> None:
    """Raise UserError if images uint8 `shape` do not fit into the free memory."""
    need, free = math.prod(shape) * _SPLIT_COPIES, free_memory()
    if free is not None and need > free:
        raise UserError(
            f"{_images(shape)} need {need / _GIGA:.3g} GB of memory, and {free / _GIGA:.3g} GB are free; set "
            "data.store=disk, data.store=files, or a smaller data.image_size"
        )


def check_disk(folder: Path, shape: tuple[int, ...]) -> None:
    """Raise UserError if images uint8 `shape` do not fit on the disk of a folder."""
    need, free = math.prod(shape) + _LEFT_FREE_BYTES, shutil.disk_usage(folder).free
    if need > free:
        raise UserError(
            f"{_images(shape)} need {need / _GIGA:.3g} GB on the disk of {folder}, and {free / _GIGA:.3g} GB "
            "are free; set data.cache=<folder>, data.store=files, or a smaller data.image_size"
        )


def free_memory() -> int | None:
    """Return the bytes of memory that a process can still get, or None if the system does not say it."""
    found = [_available(), _of_group()]
    return min((value for value in found if value is not None), default=None)


def _available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


def _of_group() -> int | None:
    """Return what a container's limit leaves; files that are only cached can be dropped."""
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        used = int((group / "memory.current").read_text(encoding="ascii"))
        lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):  # "max": no limit
        return None
    cached = sum(
        int(line.split()[1]) for line in lines if line.startswith(("active_file ", "inactive_file "))
    )
    return limit - used + cached


def _images(shape: tuple[int, ...]) -> str:
    count, channels, height, width = shape
    return f"{count:,} images of {channels}x{height}x{width}"
