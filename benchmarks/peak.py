"""Peak of resident memory of this process; imports nothing that has one."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path


def own_peak_bytes() -> int:
    """On Linux not that of getrusage: a process starts there with its parent's, and `make bench` grows."""
    status = Path("/proc/self/status")
    own = status.exists() and re.search(r"VmHWM:\s*(\d+) kB", status.read_text(encoding="utf-8"))
    if own:
        return 1024 * int(own[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
