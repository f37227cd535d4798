"""Data sources that go wrong: `data._target_=faults.exits` with this folder on PYTHONPATH."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import NoReturn


def exits() -> NoReturn:
    sys.exit(3)


def raises() -> NoReturn:
    raise RuntimeError("out of luck")


def crashes() -> NoReturn:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def is_killed() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def sleeps() -> NoReturn:
    time.sleep(600)
    raise AssertionError
