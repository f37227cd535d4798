"""A worker of `trainer.method=ps_async` beside the first one: it trains, and does nothing else."""

from __future__ import annotations

import contextlib
import signal

import pytorch_lightning as pl
import torch

from tempo.run import build
from tempo.run.run_request import Job
from tempo.task.async_classifier import Beginning, Over
from tempo.trainer.quiet import quiet


def follow(job: Job) -> None:
    """Take batches from the server until it has no more; the first worker saves, evaluates and records."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's is for the first worker
    quiet()
    config = job.config
    if config["trainer"]["threads"] is not None:
        torch.set_num_threads(config["trainer"]["threads"])
    pl.seed_everything(config["seed"], verbose=False)
    data = build.build_data(config)
    plan = build.build_plan(config, len(data.train), world_size=1, rank=0)
    module = build.build_module(config, data, plan)
    trainer = build.build_trainer(config, job.folder, plan, [Beginning()], [])
    data.train = build.on_best_device(data.train, trainer.strategy.root_device)
    with contextlib.suppress(Over):
        trainer.fit(module, build.build_train_batches(config, data, module))
