"""One job in a process of its own, forked from the sweep."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from omegaconf import DictConfig

from tempo.distributed.child_process import die_with_parent
from tempo.errors import INTERRUPTED_CODE
from tempo.sweep.jobs import CONSOLE_FILE
from tempo.sweep.launcher.base import (
    JobEnded,
    JobInterrupted,
    JobKilled,
    failed,
    failure,
)


class ForkedJob:
    """A running job: its process, the pipe on which its result comes, and when it must be over.

    The process leads a group of its own, so that a Ctrl-C in the terminal reaches the sweep alone, and what
    the job started can be ended with it. It dies with the sweep.
    """

    def __init__(
        self,
        *,
        index: int,
        slot: int,
        compose: Callable[[], DictConfig],
        run: Callable[[DictConfig], JobReturn],
        environment: Mapping[str, str],
        console: str = CONSOLE_FILE,
    ) -> None:
        self.index = index
        self.slot = slot
        self.began = time.monotonic()
        self.killed_for = ""
        """Why the sweep ended it, where it did."""
        self.kill_at: float | None = None
        self._status: int | None = None
        self.pipe, writer = os.pipe()
        parent = os.getpid()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        self.process = os.fork()
        if self.process == 0:
            os.close(self.pipe)
            _child(parent, writer, console, compose, run, environment)
        os.close(writer)
        with suppress(OSError):  # the child does the same: whoever comes first
            os.setpgid(self.process, self.process)

    def send(self, number: int) -> None:
        """Send a signal to the job and all that it started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process, number)

    def stop(self, reason: str, grace_seconds: float, number: int = signal.SIGTERM) -> None:
        """Have it save its state and end, within `grace_seconds`."""
        self.killed_for = reason
        self.kill_at = time.monotonic() + grace_seconds
        self.send(number)

    def is_over(self) -> bool:
        """Whether the process has ended: the end of its pipe says less, what it forked may hold that open."""
        if self._status is None:
            process, status = os.waitpid(self.process, os.WNOHANG)
            self._status = status if process else None
        return self._status is not None

    def collect(self) -> JobReturn:
        """The result of a job that is over."""
        assert self._status is not None
        self.send(signal.SIGKILL)  # what it left behind
        text = self._received()
        code = os.waitstatus_to_exitcode(self._status)
        if text and code == 0:
            message = json.loads(text)
            result = JobReturn()
            result.status = JobStatus.COMPLETED
            result.return_value = message["value"]
            return result
        if self.killed_for:
            return failed(JobKilled(self.killed_for))
        return failed(JobKilled(_killed_by(-code)) if code < 0 else _end(text, code))

    def _received(self) -> bytes:
        os.set_blocking(self.pipe, False)
        try:
            return os.read(self.pipe, 1 << 16)
        except BlockingIOError:
            return b""
        finally:
            os.close(self.pipe)


def _end(text: bytes, code: int) -> JobEnded:
    if text:
        return JobEnded(json.loads(text)["error"])
    if code == INTERRUPTED_CODE:
        return JobInterrupted("interrupted")
    return JobEnded(f"the process ended with exit code {code}")


def _killed_by(number: int) -> str:
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return f"killed by signal {number}"


def _child(
    parent: int,
    writer: int,
    console: str,
    compose: Callable[[], DictConfig],
    run: Callable[[DictConfig], JobReturn],
    environment: Mapping[str, str],
) -> None:
    """The whole life of the forked process; it never returns into the sweep's code."""
    code = 1
    try:
        os.setpgid(0, 0)
        die_with_parent(parent)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.environ.update(environment)
        code = _run(writer, console, compose, run)
    except KeyboardInterrupt:
        code = INTERRUPTED_CODE
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            _send(writer, {"error": f"SystemExit: {end.code}"})
    except BaseException as error:  # noqa: BLE001 - nothing may run on in a copy of the sweep
        traceback.print_exc()
        _send(writer, {"error": f"{type(error).__name__}: {error}"})
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _run(
    writer: int, console: str, compose: Callable[[], DictConfig], run: Callable[[DictConfig], JobReturn]
) -> int:
    config = compose()
    folder = Path(config.hydra.sweep.dir) / config.hydra.sweep.subdir
    _redirect(folder / console)
    result = run(config)
    error = failure(result)
    if error is None:
        value = result.return_value
        plain = value if isinstance(value, (int, float, str, list, dict, type(None))) else repr(value)
        _send(writer, {"value": plain})
        return 0
    if isinstance(error, CompactHydraException):
        print(error, file=sys.stderr)
        _send(writer, {"error": str(error)})
    else:
        traceback.print_exception(error)
        _send(writer, {"error": f"{type(error).__name__}: {error}"})
    return 1


def _redirect(path: Path) -> None:
    """Have everything that the job and its own children print go to a file, line by line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (file, 1), (file, 2)):
        os.dup2(source, target)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _send(writer: int, message: dict[str, Any]) -> None:
    # A pipe takes 64 KiB without a reader: more would wait for one.
    text = json.dumps(message, default=repr).encode()
    os.write(writer, text if len(text) < 1 << 15 else b'{"error": "the result is too long", "value": null}')
