"""Run `src/train.py` as a user does, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tempo.paths import ROOT
from tempo.record.run_json import RunRecord

FAULTS = Path(__file__).parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(FAULTS), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def start(*arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start the command in the background, with standard output and errors in one pipe."""
    return subprocess.Popen(
        [sys.executable, "src/train.py", "model=mlp", *arguments],
        cwd=ROOT,
        env={**ENVIRONMENT, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return the exit code and the output."""
    output, _ = process.communicate(timeout=240)
    return process.returncode, output


def train(*arguments: str) -> tuple[int, str]:
    """Run the command to its end."""
    return finish(start(*arguments))


def statuses(sweep: Path) -> dict[str, str]:
    """Return the status of each job that has a record, by slug."""
    return {path.parent.name: RunRecord.read(path.parent).status for path in sorted(sweep.glob("*/run.json"))}


def wait_until(holds: Callable[[], bool], seconds: float = 120) -> None:
    """Return as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def signal_all(processes: list[int], number: int) -> None:
    """Send a signal to several processes."""
    for process in processes:
        os.kill(process, number)


def processes_naming(text: str) -> list[int]:
    """Return the processes of this machine, without zombies, whose command line contains `text`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if text in (entry / "cmdline").read_bytes().decode(errors="replace"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found
