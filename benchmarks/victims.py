"""Commands of `src/train.py` that can be killed, and their outcomes: for faults.py and endurance.py."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import logging
import os
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from tempo.record.atomic_write import UNFINISHED  # noqa: E402
from tempo.record.run_json import RunRecord  # noqa: E402

PRELOADED = ("tempo.run.train", "torch.utils.tensorboard", "tempo.report.write_report", "sklearn.datasets")
_LOOK_SECONDS = 0.0005
_HANG_SECONDS = 300.0
_NO_CLOCK = ("seconds",)
_PR_SET_CHILD_SUBREAPER = 36
_END_SECONDS = 10.0


def preload() -> None:
    """Import what every command needs: their processes are forked from this one and start quickly."""
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    for module in PRELOADED:
        importlib.import_module(module)
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it warns of every repeated step


def adopt_orphans() -> None:
    """Become the parent of processes whose parent died (Linux), so that `left_processes` sees them."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def left_processes() -> list[int]:
    """Return the ids of child processes that are still there after 10 s, and kill them."""
    until, left = time.monotonic() + _END_SECONDS, _children()
    while left and time.monotonic() < until:
        for process in left:
            os.waitpid(process, os.WNOHANG)
        time.sleep(0.02)
        left = _children()
    for process in left:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    return left


def _children() -> list[int]:
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(file.read_text(errors="replace").rpartition(")")[2].split()[1])
            if parent == os.getpid():
                found.append(int(file.parent.name))
    return found


class Victim:
    """`python src/train.py <arguments>` in a new process that leads its own session."""

    def __init__(self, arguments: Sequence[str], console: Path) -> None:
        self.began = time.monotonic()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        self.process = os.fork()
        if self.process == 0:
            _train(arguments, console)
        self.code: int | None = None

    def is_over(self) -> bool:
        """Whether the process has ended; `code` is its exit code, negative for a signal."""
        if self.code is None:
            process, status = os.waitpid(self.process, os.WNOHANG)
            if process:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def signal_when(self, reached: Callable[[], bool], number: int) -> bool:
        """Send a signal as soon as `reached()`; return False if the process ended before."""
        while not self.is_over():
            if reached():
                os.kill(self.process, number)
                return True
            self._wait()
        return False

    def finish(self) -> int:
        """Wait for the process and return its exit code; a process that hangs is killed."""
        while not self.is_over():
            self._wait()
        assert self.code is not None
        return self.code

    def _wait(self) -> None:
        if time.monotonic() - self.began > _HANG_SECONDS:
            os.kill(self.process, signal.SIGKILL)
        time.sleep(_LOOK_SECONDS)


def _train(arguments: Sequence[str], console: Path) -> None:
    code = 1
    try:
        os.setsid()
        file = os.open(console, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for stream in (1, 2):
            os.dup2(file, stream)
        sys.argv = ["src/train.py", *arguments]
        runpy.run_path(str(ROOT / "src" / "train.py"), run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001 - nothing may run on in a copy of the harness
        traceback.print_exc()
    finally:
        for stream_ in (sys.stdout, sys.stderr):
            stream_.flush()
        os._exit(code)


def unfinished(run: Path) -> list[str]:
    """Return the names of the files that a run is writing, or was writing when it was killed."""
    found = []
    for folder in (run, run / "checkpoints"):
        try:
            names = [path.name for path in folder.iterdir()]
        except OSError:
            continue
        found += [name for name in names if name.endswith(".unfinished") or UNFINISHED.fullmatch(name)]
    return found


def rows(run: Path) -> int:
    """Count the complete rows of metrics.csv."""
    try:
        return max(0, (run / "metrics.csv").read_bytes().count(b"\n") - 1)
    except OSError:
        return 0


def outcome(run: Path) -> dict[str, Any]:
    """Return the contents of a run's files without times and process ids; equal for equal runs."""
    import torch
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from tempo.trainer.checkpoint_file import load

    record = RunRecord.read(run)
    keys = ("status", "weights_sha256", "metrics", "steps", "epochs", "objective", "selected", "config_hash")
    found: dict[str, Any] = {f"record.{key}": getattr(record, key) for key in keys}
    lines = [line.split(",") for line in (run / "metrics.csv").read_text(encoding="utf-8").splitlines()]
    kept = [index for index, name in enumerate(lines[0]) if name not in _NO_CLOCK]
    found["metrics.csv"] = [[line[index] for index in kept] for line in lines]
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    for tag in sorted(events.Tags()["scalars"]):
        points = [(scalar.step, scalar.value) for scalar in events.Scalars(tag)]
        # A run that was killed between its final values and its record writes them again.
        found[f"tensorboard {tag}"] = sorted(set(points)) if tag.startswith("final/") else points
    for path in sorted((run / "checkpoints").glob("*.ckpt")):
        if path.stem != "previous":
            _flatten(load(path), path.name, found, torch)
    found["unfinished"] = unfinished(run)
    found["pictures"] = sorted(path.name for path in run.glob("*.png"))
    return found


def _flatten(value: Any, where: str, found: dict[str, Any], torch: Any) -> None:
    if isinstance(value, torch.Tensor):
        found[where] = value.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    elif isinstance(value, (dict, list, tuple)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            _flatten(item, f"{where}.{key}", found, torch)
    elif not where.endswith(("train_seconds", "metrics_file.1", "run_id")):
        found[where] = value


def first_difference(found: dict[str, Any], expected: dict[str, Any]) -> str:
    """Return name and values of the first difference, or ""."""
    for key in [*expected, *found]:
        one, other = found.get(key, "nothing"), expected.get(key, "nothing")
        if one != other and not (key == "record.metrics" and json.dumps(one) == json.dumps(other)):
            return f"{key}: {str(one)[:120]} instead of {str(other)[:120]}"
    return ""
