"""Jobs in one process leave nothing behind in it."""

from __future__ import annotations

import gc
import os
import signal
import threading
import weakref

import pytorch_lightning as pl
import torch
from hydra.core.utils import JobReturn

from tempo.sweep.launcher.base_launcher import run_to_outcome
from tests.conftest import Train


class Network:
    """Something that a job builds."""


def test_the_outcome_of_a_job_keeps_none_of_its_objects() -> None:
    seen: list[weakref.ref[Network]] = []

    def job() -> JobReturn:
        network = Network()
        seen.append(weakref.ref(network))
        try:
            raise KeyError("first")
        except KeyError as error:
            raise RuntimeError("then") from error

    outcome = run_to_outcome(job)
    gc.collect()
    assert seen[0]() is None
    assert (outcome.kind, outcome.reason) == ("failed", "RuntimeError: then")


def left_in_process() -> dict[str, object]:
    gc.collect()
    living = [thing for thing in gc.get_objects() if type(thing) in (pl.Trainer, torch.optim.SGD)]
    return {
        "open files": len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0,  # noqa: PTH112, PTH208
        "threads": threading.active_count(),
        "trainers and optimizers": len(living),
        "signal handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
    }


def test_jobs_leave_no_files_threads_trainers_or_handlers(train: Train) -> None:
    short = ("trainer.max_steps=7", "checkpoint.every_n_steps=2", "early_stopping.patience=3")
    train(*short, folder="first")  # what a first run alone opens or imports
    before = left_in_process()
    for number in range(3):
        train(*short, f"seed={number}", folder=str(number))
    assert left_in_process() == before
