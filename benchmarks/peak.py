"""Peak of resident memory of this process; this file imports nothing large."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path


def own_peak_bytes() -> int:
    """Return the peak in bytes; not getrusage's on Linux, where a process starts with its parent's peak."""
    status = Path("/proc/self/status")
    own = status.exists() and re.search(r"VmHWM:\s*(\d+) kB", status.read_text(encoding="utf-8"))
    if own:
        return 1024 * int(own[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
