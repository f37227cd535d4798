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
from pathlib import Path
from typing import Any

from tempo.config.check import Config
from tempo.distributed.process_group import OURS, follows, is_asynchronous, rendezvous
from tempo.errors import UserError
from tempo.paths import ROOT
from tempo.record.atomic_write import write_atomically
from tempo.record.run_json import FILE_NAME, RunRecord
from tempo.run.run_request import Job

JOB_FILE = "job.json"
ERROR_FILE = "error.json"
"""Below `ranks/`: what the first rank that failed has refused or raised."""


def needs_group(config: Config) -> bool:
    """Whether the configuration asks for more than one process."""
    return bool(config["trainer"]["devices"] * config["trainer"]["num_nodes"] > 1)


def launch_group(job: Job) -> RunRecord:
    """Start one process a device and wait; what rank 0 prints is passed on, the rest goes to `ranks/`.

    Of several nodes, each starts its own part; the first one's has rank 0, which writes the record.

    Raises:
        UserError: the group failed; its reason, and where the rest can be read.
    """
    config, folder = job.config, job.folder
    meeting = rendezvous(config["trainer"]["num_nodes"])
    job_file = folder / (f"job.node{os.environ['NODE_RANK']}.json" if follows() else JOB_FILE)
    logs = folder / "ranks"
    logs.mkdir(parents=True, exist_ok=True)
    (logs / ERROR_FILE).unlink(missing_ok=True)
    job_values: dict[str, Any] = {
        "config": config.values,
        "folder": str(folder),
        "overrides": job.overrides,
        "choices": job.choices,
        "stop_after": job.stop_after,
        # Clocks of processes have nothing in common but the time of day.
        "started_unix": time.time() - (time.perf_counter() - job.started),
    }
    write_atomically(job_file, json.dumps(job_values))
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    devices = config["trainer"]["devices"]
    threads = config["trainer"]["threads"] or max(1, (os.cpu_count() or 1) // devices)
    starter = ["torch.distributed.run", *meeting, f"--nproc-per-node={devices}", "-m", "tempo.run.worker"]
    if is_asynchronous(config["trainer"]):
        starter = ["tempo.run.async_group", str(devices)]
    command = [sys.executable, "-m", "tempo.distributed.parent_death", *starter, str(job_file)]
    variables = {"OMP_NUM_THREADS": str(threads), **os.environ, "PYTHONPATH": path, OURS: "1"}
    variables |= job.trial.environment() if job.trial else {}
    with (logs / "torchrun.log").open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(command, env=variables, stderr=errors)
        code = _wait(process)
    if follows():
        return _of_this_node(job, code, logs)
    record = RunRecord.read(folder) if (folder / FILE_NAME).exists() else None
    if record is not None and record.status not in ("running", "failed"):
        return record
    told = _cause(logs)
    words = f"rank {told['rank']}: {told['raised']}" if "raised" in told else str(told.get("refused", ""))
    if record is not None:
        killed = f"a process died, exit code {code}" if record.status == "running" else record.reason
        record.status, record.reason = "failed", words or killed
        record.write(folder)
    if "refused" in told:
        raise UserError(words)
    reason = words or (record.reason if record else f"exit code {code} before the first record")
    raise UserError(f"the group of {devices} processes failed: {reason}; see {logs}")


def _cause(logs: Path) -> dict[str, Any]:
    """What a rank has told before it failed; nothing of one that was killed."""
    try:
        told: dict[str, Any] = json.loads((logs / ERROR_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # or killed while it wrote
        return {}
    return told


def _of_this_node(job: Job, code: int, logs: Path) -> RunRecord:
    """What a node without rank 0 knows of the run: whether its part came to an end."""
    if code != 0:
        raise UserError(f"this node's part of the group failed, exit code {code}: see {logs}")
    config = dict(job.config.values)
    return RunRecord(
        config=config, config_hash="", overrides=job.overrides, seed=config["seed"], status="completed"
    )


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
