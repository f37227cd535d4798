"""A job of several processes is a process group of its own, started by torchrun on its resolved settings.

Lightning's own launcher would run this program's command line again in each rank, `-m` included.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tempo.config import Config
from tempo.errors import UserError
from tempo.paths import ROOT
from tempo.record import FILE_NAME, RunRecord, write_atomically

JOB_FILE = "job.json"
ERROR_FILE = "error.txt"
"""Below `ranks/`: what a rank has refused."""


def needs_group(config: Config) -> bool:
    """Whether the configuration asks for more than one process."""
    return bool(config["trainer"]["devices"] * config["trainer"]["num_nodes"] > 1)


def is_group_member() -> bool:
    """Whether this process was started by torchrun."""
    return "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ


def launch_group(
    config: Config,
    folder: Path,
    overrides: list[str],
    choices: dict[str, str],
    started: float,
    environment: Mapping[str, str],
    stop_after: int | None = None,
) -> RunRecord:
    """Start one process a device and wait; what rank 0 prints is passed on, the rest goes to `ranks/`.

    `environment` is what the processes get beside this one's own.

    Raises:
        UserError: the group failed; its reason, and where the rest can be read.
    """
    if config["trainer"]["num_nodes"] > 1:
        raise UserError(
            f"trainer.num_nodes={config['trainer']['num_nodes']}: only one node can be started from here; "
            "set trainer.num_nodes=1"
        )
    logs = folder / "ranks"
    logs.mkdir(parents=True, exist_ok=True)
    (logs / ERROR_FILE).unlink(missing_ok=True)
    job: dict[str, Any] = {
        "config": config,
        "folder": str(folder),
        "overrides": overrides,
        "choices": choices,
        "stop_after": stop_after,
        # Clocks of processes have nothing in common but the time of day.
        "started_unix": time.time() - (time.perf_counter() - started),
    }
    write_atomically(folder / JOB_FILE, json.dumps(job))
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    threads = config["trainer"]["threads"] or max(1, (os.cpu_count() or 1) // config["trainer"]["devices"])
    command = [sys.executable, "-m", "tempo.parent_death", "torch.distributed.run", "--standalone"]
    command += [
        f"--nproc-per-node={config['trainer']['devices']}",
        "-m",
        "tempo.worker",
        str(folder / JOB_FILE),
    ]
    variables = {"OMP_NUM_THREADS": str(threads), **os.environ, "PYTHONPATH": path, **environment}
    with (logs / "torchrun.log").open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(command, env=variables, stderr=errors)
        code = _wait(process)
    record = RunRecord.read(folder) if (folder / FILE_NAME).exists() else None
    if record is not None and record.status == "running":  # its process was killed
        record.status, record.reason = "failed", f"a process died, exit code {code}"
        record.write(folder)
    if record is None or record.status == "failed":
        reason = record.reason if record else f"exit code {code} before the first record"
        if (logs / ERROR_FILE).exists():
            raise UserError((logs / ERROR_FILE).read_text(encoding="utf-8"))
        raise UserError(f"the group of {config['trainer']['devices']} processes failed: {reason}; see {logs}")
    return record


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for the group; SIGTERM and a first Ctrl-C are the ranks' business, which save and stop.

    A terminal sends Ctrl-C to the ranks itself; SIGTERM comes to this process alone and is passed on.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread:
        before = signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(number))
    try:
        return process.wait()
    except KeyboardInterrupt:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.kill()
            raise
    finally:
        if in_main_thread:
            signal.signal(signal.SIGTERM, before)
