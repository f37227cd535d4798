"""Skip Python's search for garbage when it can find none: it takes a quarter of the start-up time."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing(*modules: str) -> Iterator[None]:
    """Disable garbage collection while torch or modules as large are imported.

    Their million objects stay until the process ends. `gc.freeze` keeps later searches, and those of forked
    processes, away from them. If the modules are imported already, this does nothing: other objects that
    exist by then may become garbage.
    """
    if all(name in sys.modules for name in modules) or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def end_at_once() -> None:
    """Skip the last search for garbage in a process that has nothing open, as after `--help` (65 ms)."""
    atexit.register(gc.freeze)
