"""Measure a point of the benchmark: train an ordinary run in its own process, then read its files."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tempo.config.check import check
from tempo.config.schema import RunConfig
from tempo.distributed.child_process import ChildProcess, exit_reason, last_line
from tempo.errors import UserError
from tempo.record.run_json import FILE_NAME, RunRecord
from tempo.report.load_runs import Array, read_curves
from tempo.run.run_request import RunRequest
from tempo.run.train import run
from tempo.scaling.measured_point import ScalingPoint, cores

LOG = "output.log"
"""File in a run's folder with the output of its processes."""
_BYTES = {"64-true": 8, "bf16-true": 2}
"""Bytes of one gradient element, by trainer.precision; 4 for other precisions."""


def train_within(config: RunConfig, folder: Path, limit_seconds: float) -> None:
    """Train a configuration in its own process; the record and the output are in its folder.

    Raises:
        UserError: the run failed, or did not finish in time and was killed with all its processes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    request = json.dumps({"config": config.values, "folder": str(folder)})
    with (folder / LOG).open("wb") as log:
        process = ChildProcess.run_module(
            "tempo.scaling.measured_run", text_input=request, stdout=log, stderr=log
        )
        code = process.wait_at_most(limit_seconds)
    # A run that was recorded counts, even if its processes did not end in time.
    record = RunRecord.read(folder) if (folder / FILE_NAME).is_file() else None
    if record is not None and record.status == "completed":
        return
    if code is None:
        raise UserError(
            f"not finished after {limit_seconds / 60:g} minutes and killed; set scaling.minutes=<more>, or "
            "fewer scaling.steps"
        )
    reason = record.reason if record is not None and record.finished else last_line(folder / LOG)
    raise UserError(f"{reason[:500] or exit_reason(code)} [{folder / LOG}]")


def main() -> None:
    """Train the configuration from stdin in the folder given there."""
    values = json.load(sys.stdin)
    request = RunRequest(
        config=check(values["config"]), folder=Path(values["folder"]), overrides=[], choices={}
    )
    try:
        run(request)
    except UserError as error:
        sys.exit(str(error))


def point_of_run(folder: Path, *, warmup_steps: int, command: str = "") -> ScalingPoint:
    """Return the point measured by a completed run on random images, from its record and metrics.csv.

    `warmup_steps` is a number of optimizer steps.

    Raises:
        UserError: metrics.csv has no interval after the warm-up.
    """
    record = RunRecord.read(folder)
    trainer, server, data = (record.config[key] for key in ("trainer", "server", "data"))
    method, workers, precision = trainer["method"], trainer["devices"], trainer["precision"]
    batch, asynchronous = data["total_batch_size"], method == "ps_async"
    curves = read_curves(folder / "metrics.csv")
    of_step = step_seconds(curves, warmup_steps, data["train_images"] // batch)
    if not of_step:
        raise UserError(f"{folder}: metrics.csv has no interval after a warm-up of {warmup_steps} steps")
    rate = batch / statistics.median(of_step)
    exchange, steps = record.exchange, record.steps
    dropped = exchange.get("dropped", 0)
    # An asynchronous step uses one worker's gradient, and dropped gradients took their workers' time as well.
    of_worker = workers * steps / (steps + dropped) if asynchronous else 1
    gradient_bytes = record.parameters["trainable"] * _BYTES.get(precision, 4)
    on_gpu = "gpu_capability" in record.environment
    return ScalingPoint(
        source="measured",
        method=method,
        model=record.name,
        workers=workers,
        images_per_worker=batch if asynchronous else batch // workers,
        step_seconds=statistics.median(of_step) * of_worker,
        images_per_second=rate,
        image_size=data["image_size"],
        servers=0 if method == "ring" else server["count"],
        placement="" if method == "ring" else server["placement"],
        reply="" if method == "ring" else server["reply"],
        step_seconds_quartiles=(
            [seconds * of_worker for seconds in statistics.quantiles(of_step, n=4)[::2]]
            if len(of_step) > 1
            else []
        ),
        single_images_per_second=rate if workers == 1 else None,
        gradient_bytes=gradient_bytes,
        **_bytes_of_busiest(record, gradient_bytes // (2 if trainer["compress"] else 1)),
        staleness=exchange["staleness_mean"] if asynchronous else None,
        sent_gradients=steps + dropped if asynchronous else 0,
        dropped_gradients=dropped,
        steps=steps,
        warmup_steps=warmup_steps,
        accelerator="gpu" if on_gpu else "cpu",
        device=record.device,
        cores=cores(),
        threads=trainer["threads"],
        backend=_backend(trainer, on_gpu),
        precision=precision,
        versions=record.versions,
        command=command,
    )


def step_seconds(curves: dict[str, Array], warmup_steps: int, epoch_steps: int) -> list[float]:
    """Return the seconds per optimizer step of each measured interval of `read_curves`.

    The warm-up is left out. So is the first interval of an epoch, unless there are no others, because it
    includes the previous epoch's checkpoint and the start of its own epoch.
    """
    rows = ~np.isnan(curves["train/loss"])
    ends = np.concatenate([[0.0], curves["step"][rows]])
    seconds = np.concatenate([[0.0], curves["seconds"][rows]])
    begins = ends[:-1]
    of_step = np.diff(seconds) / np.diff(ends)
    measured = begins >= warmup_steps
    within_epoch = measured & (begins % epoch_steps != 0)
    return [float(value) for value in of_step[within_epoch if within_epoch.any() else measured]]


def _bytes_of_busiest(record: RunRecord, wire_bytes: int) -> dict[str, Any]:
    """Return the bytes per step of the busiest worker; a backend's ring counts none, so they are computed."""
    workers, exchange = record.config["trainer"]["devices"], record.exchange
    sent, received = exchange.get("sent_bytes_per_step"), exchange.get("received_bytes_per_step")
    if sent is None:
        ring = 2 * (workers - 1) / workers * wire_bytes
        return {"sent_bytes_by_rank": [ring], "received_bytes_by_rank": [ring], "bytes_are": "computed"}
    if record.config["trainer"]["method"] == "ps_async":  # the record has the server's bytes
        sent, received = received, sent
    return {"sent_bytes_by_rank": [sent], "received_bytes_by_rank": [received], "bytes_are": "counted"}


def _backend(trainer: dict[str, Any], on_gpu: bool) -> str:
    if trainer["devices"] == 1:
        return ""
    return "ray" if trainer["method"] == "ps_async" else trainer["backend"] or ("nccl" if on_gpu else "gloo")


if __name__ == "__main__":
    main()
