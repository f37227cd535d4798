"""Processes that end with the one that started them, even if that one is killed with -9.

As a program it runs a module in such a process:
`python -m tempo.distributed.child_process <module> <arguments>`.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tempo.distributed.interrupt_counter import StopSignals
from tempo.paths import ROOT

PARENT = "TEMPO_PARENT_PROCESS"
"""Names, in the environment of a child, the process that it must not outlive."""
_SOURCE = str(ROOT / "src")
_PR_SET_PDEATHSIG = 1
_LOOK_SECONDS = 0.02
_LOOK_FOR_PARENT_SECONDS = 0.5


class ChildProcess:
    """A process that ends with this one and leads a process group of its own.

    A Ctrl-C in the terminal does not reach it: this process decides what to pass on.
    """

    def __init__(self, pid: int, exit_code: Callable[[], int | None]) -> None:
        self.pid = pid
        self.exit_code = exit_code
        """Returns the exit code, negative if a signal ended the process, and None while it is running."""

    @classmethod
    def run_module(
        cls,
        module: str,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        text_input: str = "",
        **options: Any,
    ) -> ChildProcess:
        """Run `python -m <module> <arguments>`; `options` are those of `subprocess.Popen`."""
        command = [sys.executable, "-m", "tempo.distributed.child_process", module, *arguments]
        variables = {**(os.environ if environment is None else environment), PARENT: str(os.getpid())}
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, [_SOURCE, variables.get("PYTHONPATH")]))
        stdin = subprocess.PIPE if text_input else None
        process = subprocess.Popen(command, env=variables, stdin=stdin, start_new_session=True, **options)
        if process.stdin is not None:
            with suppress(BrokenPipeError), process.stdin:
                process.stdin.write(text_input.encode())
        return cls(process.pid, process.poll)

    @classmethod
    def fork(cls, function: Callable[[], int]) -> ChildProcess:
        """Run a function, which returns the exit code, in a copy of this process."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        # Not by multiprocessing, which would force its start method on what the function runs.
        parent, pid = os.getpid(), os.fork()
        if pid == 0:
            _run_forked(parent, function)
        with suppress(OSError):  # the child does the same: a signal may be sent before it gets there
            os.setpgid(pid, pid)
        return cls(pid, _exit_code_of_fork(pid))

    def send(self, number: int) -> None:
        """Send a signal to the process."""
        if self.exit_code() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the process and what is left of its group."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Wait for the end and return the exit code.

        SIGTERM and a first Ctrl-C are passed on: the process saves its state and ends.

        Raises:
            KeyboardInterrupt: a second Ctrl-C; the process is killed.
        """
        with StopSignals(self.send) as signals:
            while (code := self.exit_code()) is None:
                if signals.insisted:
                    self.kill()
                    raise KeyboardInterrupt
                time.sleep(_LOOK_SECONDS)
        return code


def exit_reason(code: int) -> str:
    """Return `exit code 3` or `killed by SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def last_line(log: Path) -> str:
    """Return the last line of a process's log that has letters in it."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if any(map(str.isalpha, line))), "")


def die_with_parent(parent: int | None = None, number: int = signal.SIGKILL) -> None:
    """Have this process killed as soon as its parent is gone; `parent` is its id if the caller knows it.

    Linux does it in the kernel, at once, with the signal `number`. Elsewhere (macOS) a thread looks twice a
    second, which code that never gives up the interpreter can delay.
    """
    expected = os.getppid() if parent is None else parent
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)
    else:
        threading.Thread(target=_look_for_parent, args=(expected,), daemon=True).start()
    if os.getppid() != expected:  # gone before it could be asked for
        os._exit(1)


def _look_for_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_FOR_PARENT_SECONDS)
    os._exit(1)


def _exit_code_of_fork(pid: int) -> Callable[[], int | None]:
    code: int | None = None

    def exit_code() -> int | None:
        nonlocal code
        if code is None:
            with suppress(ChildProcessError):  # a signal handler that interrupted this call has got it
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    code = os.waitstatus_to_exitcode(status)
        return code

    return exit_code


def _run_forked(parent: int, function: Callable[[], int]) -> None:
    """Run the whole life of a forked process: it must never return into its parent's code."""
    code = 1
    try:
        os.setpgid(0, 0)
        die_with_parent(parent)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        code = function()
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


if __name__ == "__main__":
    # The parent may be gone before the first line here runs: its id comes with the environment.
    die_with_parent(int(os.environ[PARENT]) if PARENT in os.environ else None)
    os.environ[PARENT] = str(os.getpid())  # of those that the module starts in this way in turn
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
