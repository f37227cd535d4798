"""Jobs in one process leave nothing behind in it."""

from __future__ import annotations

import gc
import os
import signal
import threading
import weakref

import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf

from tempo.sweep.launcher.base import failed, failure
from tempo.sweep.launcher.in_process import let_go
from tests.conftest import Train


class Network:
    """Something that a job builds."""


def test_the_result_of_a_job_keeps_none_of_its_objects() -> None:
    seen: list[weakref.ref[Network]] = []

    def job() -> None:
        network = Network()
        seen.append(weakref.ref(network))
        try:
            raise KeyError("first")
        except KeyError as error:
            raise RuntimeError("then") from error

    try:
        job()
    except RuntimeError as error:
        result = failed(error)
    result.cfg = OmegaConf.create({"a": 1})
    assert seen[0]() is not None, "nothing holds it anyway: the test shows nothing"
    let_go(result)
    gc.collect()
    assert seen[0]() is None
    assert result.cfg is None
    assert str(failure(result)) == "then"


def test_errors_that_are_each_others_context_are_let_go() -> None:
    """Python itself makes such a ring where an old error is raised while another one is handled."""
    first, then = KeyError("first"), RuntimeError("then")
    first.__context__, then.__context__ = then, first
    let_go(failed(then))
    assert first.__traceback__ is None


def left_in_process() -> dict[str, object]:
    gc.collect()
    living = [each for each in gc.get_objects() if type(each) in (pl.Trainer, torch.optim.SGD)]
    return {
        "open files": len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0,  # noqa: PTH112, PTH208
        "threads": threading.active_count(),
        "trainers and optimizers": len(living),
        "signal handlers": [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)],
    }


def test_jobs_leave_no_files_threads_trainers_or_handlers(train: Train) -> None:
    short = ("trainer.max_steps=7", "checkpoint.every_n_steps=2", "early_stopping.patience=3")
    train(*short, folder="first")  # what a first run alone opens or imports
    before = left_in_process()
    for number in range(3):
        train(*short, f"seed={number}", folder=str(number))
    assert left_in_process() == before
