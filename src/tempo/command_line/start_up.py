"""No search for garbage where there is none: among what is imported, and in a process that only answers."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_SELDOM = 200_000
"""New objects before the next search; Python's own number is 700."""
_threshold = gc.get_threshold()


@contextmanager
def importing(*modules: str) -> Iterator[None]:
    """Around an import of modules that bring torch or as much, whose million objects stay until the end.

    Searching them again and again takes a quarter of the imports' time, searching them once more at the end
    of the process a second, and searches in a forked process copy what it shares with its parent. So there
    is no search meanwhile, and none among them later. Does nothing where they are there already: what else
    lies around then may be garbage one day.
    """
    if all(each in sys.modules for each in modules) or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def search_seldom() -> None:
    """Until the task begins: a configuration is composed in a tenth of a second, and most of it is kept."""
    gc.set_threshold(_SELDOM, *_threshold[1:])


def search_as_usual() -> None:
    """As Python does."""
    gc.set_threshold(*_threshold)


def end_at_once() -> None:
    """Let the process end without a last search: for one that has nothing open, as after `--help`."""
    atexit.register(gc.freeze)
