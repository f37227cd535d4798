"""Skip garbage collection when there is nothing to collect: it takes a quarter of the start-up time."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_WAITING = "loading libraries ..."


@contextmanager
def importing(*modules: str) -> Iterator[None]:
    """Disable garbage collection while importing torch or other large modules.

    Their million objects stay until the process ends. `gc.freeze` excludes them from later collections, here
    and in forked processes. If the modules are already imported, this does nothing: freezing would also keep
    objects that may become garbage. On a terminal, a line says what is waited for.
    """
    if all(name in sys.modules for name in modules) or not gc.isenabled():
        yield
        return
    gc.disable()
    waits = sys.stdout.isatty() and sys.stderr.isatty()
    try:
        if waits:
            print(_WAITING, end="", file=sys.stderr, flush=True)
        yield
        gc.freeze()
    finally:
        gc.enable()
        if waits:
            print("\r" + " " * len(_WAITING), end="\r", file=sys.stderr, flush=True)


def end_at_once() -> None:
    """Skip the last garbage collection (65 ms) in a process that has nothing open, as after `--help`."""
    atexit.register(gc.freeze)
