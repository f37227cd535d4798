"""Start processes that end with their parent, even if the parent is killed by SIGKILL.

As a program, this file runs a module in such a process:
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
from tempo.paths import python_path

PARENT = "TEMPO_PARENT_PROCESS"
"""Environment variable of a child: the id of the process that it must not outlive."""
_PR_SET_PDEATHSIG = 1
_LOOK_SECONDS = 0.02
_LOOK_FOR_PARENT_SECONDS = 0.5


class ChildProcess:
    """Child process that ends with this one and leads its own process group.

    A Ctrl-C in the terminal does not reach it; this process decides which signals to pass on.
    """

    def __init__(self, pid: int, exit_code: Callable[[], int | None]) -> None:
        self.pid = pid
        self.exit_code = exit_code
        """Function that returns the exit code, negative after a signal, or None while the process runs."""

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
        variables["PYTHONPATH"] = python_path(variables.get("PYTHONPATH"))
        stdin = subprocess.PIPE if text_input else None
        process = subprocess.Popen(command, env=variables, stdin=stdin, start_new_session=True, **options)
        if process.stdin is not None:
            # A child that dies at once does not read it; its exit code says so.
            with suppress(BrokenPipeError), process.stdin:
                process.stdin.write(text_input.encode())
        return cls(process.pid, process.poll)

    @classmethod
    def fork(cls, function: Callable[[], int]) -> ChildProcess:
        """Run a function, which returns the exit code, in a copy of this process."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # otherwise the copy would print buffered text a second time
        # Not with multiprocessing, which would force its start method on code that the function runs.
        parent, pid = os.getpid(), os.fork()
        if pid == 0:
            _run_forked(parent, function)
        with suppress(OSError):  # the child does so too, but a signal may be sent before it has
            os.setpgid(pid, pid)
        return cls(pid, _exit_code_of_fork(pid))

    def send(self, number: int) -> None:
        """Send a signal to the process."""
        if self.exit_code() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the process and any others left in its group."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Wait for the end and return the exit code.

        SIGTERM and a first Ctrl-C are passed on, so that the process saves its state and ends.

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

    def wait_at_most(self, limit_seconds: float) -> int | None:
        """Wait for the end and return the exit code; None for a process that was killed at the limit.

        Whatever happens, Ctrl-C included, nothing of the process's group is left.
        """
        deadline = time.monotonic() + limit_seconds
        try:
            while (code := self.exit_code()) is None and time.monotonic() < deadline:
                time.sleep(_LOOK_SECONDS)
        finally:
            self.kill()
            while self.exit_code() is None:  # so that it holds no file or lock when this returns
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
    """Have this process killed as soon as its parent is gone; `parent` is the parent's id, if known.

    On Linux the kernel does so at once, with the signal `number`. Elsewhere (macOS) a thread checks twice a
    second, unless code that holds the interpreter's lock delays it.
    """
    expected = os.getppid() if parent is None else parent
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)
    else:
        threading.Thread(target=_look_for_parent, args=(expected,), daemon=True).start()
    if os.getppid() != expected:  # the parent was gone before the call above took effect
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
            with suppress(ChildProcessError):  # a signal handler interrupted this call and got the code
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    code = os.waitstatus_to_exitcode(status)
        return code

    return exit_code


def _run_forked(parent: int, function: Callable[[], int]) -> None:
    """Run a forked process to its end, so that it never returns into its parent's code."""
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
    # The parent may be gone before this line runs, so its id comes from the environment.
    die_with_parent(int(os.environ[PARENT]) if PARENT in os.environ else None)
    os.environ[PARENT] = str(os.getpid())  # for processes that the module starts in the same way
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
