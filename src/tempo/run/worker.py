"""Run one process of a group: `python -m tempo.run.worker <job.json>`, with torchrun's variables."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tempo.command_line.output_streams import keep_streams_open
from tempo.config.check import check
from tempo.errors import UserError
from tempo.run.build_data import build_data, build_plan, move_to_best_device
from tempo.run.build_module import build_task, connect_data
from tempo.run.build_trainer import build_trainer
from tempo.run.process_launch import ERROR_FILE
from tempo.run.run_request import RunRequest
from tempo.run.train import run, seed_process
from tempo.task.async_classifier import NoMoreBatches
from tempo.trainer.optuna_trial import Trial
from tempo.trainer.process_settings import quiet


def main() -> None:
    """Run this rank's part; ranks above 0 print to a file."""
    keep_streams_open()
    values = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder, rank = Path(values["folder"]), int(os.environ["RANK"])
    if rank > 0:
        log = (folder / "ranks" / f"rank{rank}.log").open("a", encoding="utf-8")
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
    request = RunRequest(
        config=check(values["config"]),
        folder=folder,
        overrides=values["overrides"],
        choices=values["choices"],
        stop_after=values["stop_after"],
        started=time.perf_counter() - (time.time() - values["started_unix"]),
        trial=Trial.from_environment(),
    )
    # With an asynchronous server only the first worker records, and the run survives the loss of another.
    only_trains = rank > 0 and request.config.trainer.exchange.is_asynchronous
    try:
        (train_only if only_trains else run)(request)
    except UserError as error:
        if not only_trains:
            _report(folder, {"refused": str(error)})
        sys.exit(str(error))
    except Exception as error:
        if not only_trains:
            _report(folder, {"rank": rank, "raised": f"{type(error).__name__}: {error}".splitlines()[0]})
        raise


def train_only(request: RunRequest) -> None:
    """Train on batches from the asynchronous server until it has no more.

    The first worker saves, evaluates and records.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first worker stops and thereby ends the others
    quiet()
    config = request.config
    seed_process(config)
    data = build_data(config)
    plan = build_plan(config, data, world_size=1, rank=0)
    task = build_task(config, data, plan)
    trainer = build_trainer(config, request.folder, plan, task.first_callbacks, [], task.module)
    move_to_best_device(data, trainer.strategy.root_device)
    connect_data(config, data, task)
    with contextlib.suppress(NoMoreBatches):
        trainer.fit(task.module, data.train_dataloader())


def _report(folder: Path, cause: dict[str, Any]) -> None:
    """Write the error for the launching process, unless another rank already has: the first is the cause.

    The record cannot hold it: the first rank to fail ends the others, perhaps before rank 0 writes.
    """
    with contextlib.suppress(FileExistsError), (folder / "ranks" / ERROR_FILE).open("x") as file:
        json.dump(cause, file)


if __name__ == "__main__":
    main()
