"""Start the processes of a run on several devices, on the resolved configuration; on several nodes, torchrun.

Lightning's own launcher would run this program's command line again in each rank, including `-m`.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from tempo.config.schema import RunConfig
from tempo.distributed.child_process import ChildProcess, exit_reason, last_line
from tempo.distributed.process_group import OURS, follows, rendezvous
from tempo.errors import UserError
from tempo.record.atomic_write import write_atomically
from tempo.record.read_file import read_bytes, read_text
from tempo.record.run_json import FILE_NAME, RunRecord
from tempo.run.run_request import RunRequest

JOB_FILE = "job.json"
GROUP_LOG = "group.log"
"""File in `ranks/` with what the process that starts the ranks says."""
ERROR_FILE = "error.json"
"""File in `ranks/` with the error of the first rank that failed."""
_STOPPED = (128 + signal.SIGTERM, 128 + signal.SIGINT, -signal.SIGTERM, -signal.SIGINT)
"""Exit codes of a group that was asked to stop."""


def needs_group(config: RunConfig) -> bool:
    """Whether the configuration asks for more than one process."""
    return bool(config.trainer.devices * config.trainer.num_nodes > 1)


def launch_group(request: RunRequest) -> RunRecord:
    """Start one process per device and wait; rank 0 prints here, the others to files in `ranks/`.

    With several nodes, each starts its own part of the group; rank 0, on the first node, writes the record.

    Raises:
        UserError: the group failed; the message has the reason and the folder of the logs.
    """
    config, folder = request.config, request.folder
    meeting = rendezvous(config.trainer.num_nodes)
    job_file = folder / (f"job.node{os.environ['NODE_RANK']}.json" if follows() else JOB_FILE)
    logs = folder / "ranks"
    logs.mkdir(parents=True, exist_ok=True)
    (logs / ERROR_FILE).unlink(missing_ok=True)
    job_values: dict[str, Any] = {
        "config": config.values,
        "folder": str(folder),
        "overrides": request.overrides,
        "choices": request.choices,
        "stop_after": request.stop_after,
        # perf_counter starts anywhere in each process, so only the time of day can be passed on.
        "started_unix": time.time() - (time.perf_counter() - request.started),
    }
    write_atomically(job_file, json.dumps(job_values))
    devices = config.trainer.devices
    threads = config.trainer.threads or max(1, (os.cpu_count() or 1) // devices)
    variables = {"OMP_NUM_THREADS": str(threads), **os.environ, OURS: "1"}
    variables |= request.trial.environment() if request.trial else {}
    starter = ["tempo.distributed.local_group", str(devices), "tempo.run.worker"]
    if meeting:
        worker = ["-m", "tempo.distributed.child_process", "tempo.run.worker"]
        starter = ["torch.distributed.run", *meeting, f"--nproc-per-node={devices}", *worker]
    if config.trainer.exchange.is_asynchronous:
        starter = ["tempo.run.async_group", str(devices)]
    before = _content(folder / FILE_NAME)
    with (logs / GROUP_LOG).open("w", encoding="utf-8") as errors:
        code = ChildProcess.run_module(*starter, str(job_file), environment=variables, stderr=errors).wait()
    if follows():
        return _of_this_node(request, code, logs)
    # A group that died before its first record leaves that of the session before, or none.
    record = RunRecord.read(folder) if _content(folder / FILE_NAME) != before else None
    if record is not None and record.status not in ("running", "failed"):
        return record
    cause = _cause(logs)
    words = f"rank {cause['rank']}: {cause['raised']}" if "raised" in cause else str(cause.get("refused", ""))
    if record is not None:
        killed = f"a process died, {exit_reason(code)}" if record.status == "running" else record.reason
        record.status, record.reason = "failed", words or killed
        record.write(folder)
    if "refused" in cause:
        raise UserError(words)
    if record is None and not cause and code in _STOPPED:
        raise KeyboardInterrupt  # SIGTERM or Ctrl-C while the ranks were still importing
    unrecorded = f"{exit_reason(code)} before the first record: {last_line(logs / GROUP_LOG)}"
    reason = words or (record.reason if record else unrecorded)
    raise UserError(f"the group of {devices} processes failed: {reason}; see {logs}")


def _content(path: Path) -> bytes | None:
    return read_bytes(path) if path.exists() else None


def _cause(logs: Path) -> dict[str, Any]:
    """Return the error that a rank wrote when it failed; empty if it was killed."""
    try:
        cause: dict[str, Any] = json.loads(read_text(logs / ERROR_FILE))
    except (FileNotFoundError, ValueError):  # ValueError: the rank was killed while writing
        return {}
    return cause


def _of_this_node(request: RunRequest, code: int, logs: Path) -> RunRecord:
    """Return a minimal record on a node without rank 0, which knows only that its part has ended."""
    if code != 0:
        raise UserError(f"this node's part of the group failed ({exit_reason(code)}); see {logs}")
    config = request.config
    return RunRecord(
        config=dict(config.values),
        config_hash="",
        overrides=request.overrides,
        seed=config.seed,
        status="completed",
    )
