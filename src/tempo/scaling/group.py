"""The processes of one point: started, watched, and all ended when one of them fails or time is up."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tempo.errors import UserError
from tempo.paths import ROOT
from tempo.scaling.benchmark_job import BenchmarkJob

_LOOK_SECONDS = 0.1
_GRACE_SECONDS = 1.0
"""After the first failure: the process at fault need not be the first to end."""
JOB_FILE = "job.json"


def run_group(
    job: BenchmarkJob,
    workers: int,
    *,
    folder: Path,
    limit_seconds: float,
    port: int | None = None,
    variables: Mapping[str, str] | None = None,
) -> None:
    """Measure a point with so many processes on this machine; `folder` gets the job and a log for each.

    Raises:
        UserError: a process failed, with what it said last; or the time is up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    job.write(folder / JOB_FILE)
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    shared = {
        **os.environ,
        **(variables or {}),
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": str(job.threads),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port or free_port()),
        "WORLD_SIZE": str(workers),
        "LOCAL_WORLD_SIZE": str(workers),
    }
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(workers):
            with log_of(folder, rank).open("wb") as log:
                processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "tempo.scaling.rank", str(folder / JOB_FILE)],
                        env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                    )
                )
        _watch(processes, folder, time.monotonic() + limit_seconds, limit_seconds)
    finally:
        for each in processes:
            each.kill()
        for each in processes:
            each.wait()


def _watch(
    processes: list[subprocess.Popen[bytes]], folder: Path, deadline: float, limit_seconds: float
) -> None:
    while any(each.poll() is None for each in processes):
        _refuse_failed(processes, folder)
        if time.monotonic() > deadline:
            raise UserError(
                f"not finished after {limit_seconds / 60:g} minutes, killed: scaling.minutes=<more>, or "
                "fewer scaling.steps"
            )
        time.sleep(_LOOK_SECONDS)
    _refuse_failed(processes, folder)


def _refuse_failed(processes: list[subprocess.Popen[bytes]], folder: Path) -> None:
    if all(each.poll() in (None, 0) for each in processes):
        return
    time.sleep(_GRACE_SECONDS)
    failed = [rank for rank, each in enumerate(processes) if each.poll() not in (None, 0)]
    # Who waits for one that has died complains too, at length; who refused its job says so in one line.
    rank = min(failed, key=lambda each: (last_line(log_of(folder, each))[1] or 1 << 30, each))
    code = processes[rank].returncode
    words = last_line(log_of(folder, rank))[0] or f"exit code {code}" + (" (killed)" if code == -9 else "")
    raise UserError(f"{words} [worker {rank}: {log_of(folder, rank)}]")


def last_line(log: Path) -> tuple[str, int]:
    """What a process said last, and how many lines it said."""
    with contextlib.suppress(OSError):
        lines = [
            each for each in log.read_text(encoding="utf-8", errors="replace").splitlines() if each.strip()
        ]
        if lines:
            return lines[-1][:500], len(lines)
    return "", 0


def log_of(folder: Path, rank: int) -> Path:
    """Where a process's output goes."""
    return folder / f"rank{rank}.log"


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
