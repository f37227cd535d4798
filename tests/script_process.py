"""Scripts of `src/` as processes of their own that start at once, forked from a server that holds torch.

A script sees what it would see alone (arguments, folder, environment, standard streams), but for the four
seconds that its imports take, and so do the ranks that it starts. With new interpreters, tests/command_line
starts scripts, and tests/run/test_nodes.py ranks. Runs draw no figures of their own; sweeps do.
"""

from __future__ import annotations

import contextlib
import functools
import io
import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import IO, Any, NamedTuple

from tempo.distributed.child_process import PARENT, ChildProcess, die_with_parent
from tempo.paths import ROOT
from tests.jobs import finish, fork_server, without_pictures

HELD_MODULES = ("tempo.distributed.local_group", "tempo.run.worker", "tempo.scaling.measured_run")
"""Modules that start the processes of a run; the server holds what they import."""


class Ended(NamedTuple):
    """Exit code of a script, negative after a signal, and what it has printed."""

    code: int
    out: str
    err: str


class ScriptProcess:
    """`python src/<script> <arguments>` in the folder of the project; it leads a session of its own."""

    def __init__(
        self,
        script: str,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        one_stream: bool = False,
        in_background: bool = False,
    ) -> None:
        """Start it.

        `one_stream`: its errors go to `out` as well, in the order in which it prints. `in_background`: as a
        shell script starts `command &`, with SIGINT ignored.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="tempo_script_")
        self._files = [Path(self._folder.name, name) for name in ("out", "out" if one_stream else "err")]
        given = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
        self._process = fork_server().Process(
            target=_become,
            args=(script, arguments, given, [str(path) for path in self._files], in_background),
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.is_alive()

    def send_signal(self, number: int) -> None:
        """Send a signal to the script, and not to the processes that it has started."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def family(self) -> list[int]:
        """Process ids of the script and of all that it has started, as Linux lists them."""
        found = [self.pid]
        for pid in found:  # grows on the way
            for children in Path("/proc", str(pid), "task").glob("*/children"):
                found += map(int, children.read_text(encoding="ascii").split())
        return found

    def finish(self, timeout_seconds: float = 240) -> Ended:
        """Wait for its end; a script that hangs is killed and fails the test."""
        code = finish(self._process, timeout_seconds)
        texts = {path: path.read_text(encoding="utf-8") if path.exists() else "" for path in self._files}
        out, err = self._files[0], self._files[-1]
        self._folder.cleanup()
        return Ended(code, texts[out], "" if out == err else texts[err])


def run_script(script: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Ended:
    """Run `python src/<script> <arguments>` to its end."""
    return ScriptProcess(script, *arguments, environment=environment).finish()


def _become(
    script: str,
    arguments: tuple[str, ...],
    environment: Mapping[str, str],
    files: list[str],
    in_background: bool,
) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN if in_background else signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDONLY)
    streams = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) for path in files]
    for source, target in zip([nothing, *streams], range(3), strict=True):
        os.dup2(source, target)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - multiprocessing has closed its own
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    for module in ("tempo.command_line.script", "tempo.run.train"):  # the server has run for a while
        vars(sys.modules[module])["STARTED"] = time.perf_counter()
    fork_modules(multiprocessing.get_context("fork"))
    path = f"src/{script}"
    sys.argv = [path, *arguments]
    # As a new interpreter would: the folder of the script, then PYTHONPATH.
    sys.path[:0] = [
        str((ROOT / path).resolve().parent),
        *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep)),
    ]
    with without_pictures():
        runpy.run_path(path, run_name="__main__")


_in_new_interpreter = ChildProcess.run_module


def run_module(
    context: BaseContext,
    module: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    text_input: str = "",
    stdout: IO[Any] | None = None,
    stderr: IO[Any] | None = None,
    **options: Any,
) -> ChildProcess:
    """Take the place of `ChildProcess.run_module`: fork a process that has imported the module."""
    if module not in HELD_MODULES:
        files = {"stdout": stdout, "stderr": stderr, "text_input": text_input}
        return _in_new_interpreter(module, *arguments, environment=environment, **files, **options)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    files = [None if file is None else str(file.name) for file in (stdout, stderr)]
    given = dict(os.environ if environment is None else environment)
    process = context.Process(target=_become_module, args=(module, arguments, given, text_input, files))
    process.start()
    assert process.pid is not None
    with contextlib.suppress(ProcessLookupError):
        while os.getpgid(process.pid) != process.pid:  # whoever kills it kills its group
            time.sleep(0.001)
    return ChildProcess(process.pid, lambda: process.exitcode)


def _become_module(
    module: str,
    arguments: tuple[str, ...],
    environment: Mapping[str, str],
    text_input: str,
    files: list[str | None],
) -> None:
    os.setsid()
    die_with_parent()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for number, path in enumerate(files, 1):
        if path is not None:
            os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update({**environment, PARENT: str(os.getpid())})
    fork_modules(multiprocessing.get_context("fork"))
    sys.stdin, sys.argv = io.StringIO(text_input), [module, *arguments]
    sys.modules[module].main()


def fork_modules(context: BaseContext) -> None:
    """Fork, from now on, what this process starts of `HELD_MODULES`."""
    ChildProcess.run_module = functools.partial(run_module, context)  # type: ignore[method-assign]
