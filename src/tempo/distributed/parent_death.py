"""A process that ends with the one that started it, even if that one is killed with -9.

As a program it runs another module in such a process:
`python -m tempo.distributed.parent_death <module> <arguments>`.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1
_LOOK_SECONDS = 0.5


def die_with_parent(parent: int | None = None, number: int = signal.SIGKILL) -> None:
    """Have this process killed as soon as its parent is gone; `parent` is its id where the caller knows it.

    Linux does it in the kernel, at once, with the signal `number`. Elsewhere (macOS) a thread looks twice a
    second, which code that never gives up the interpreter can hold up.
    """
    expected = os.getppid() if parent is None else parent
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)
    else:
        threading.Thread(target=_look, args=(expected,), daemon=True).start()
    if os.getppid() != expected:  # gone before it could be asked for
        os._exit(1)


def _look(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    die_with_parent()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
