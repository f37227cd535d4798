"""Build every part of a run before its first step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytorch_lightning as pl

from tempo.data.batches import BatchPlan, EvalBatches
from tempo.record.run_json import RunRecord
from tempo.run.build_data import (
    Data,
    build_data,
    build_eval_batches,
    build_plan,
    build_train_batches,
    check_every_rank_has_images,
    on_best_device,
)
from tempo.run.build_module import build_module
from tempo.run.build_network import start_from
from tempo.run.build_trainer import build_loggers, build_trainer
from tempo.run.callbacks import build_callbacks
from tempo.run.resume import Start, check_same_images
from tempo.run.run_request import RunRequest
from tempo.task.classifier import Classifier
from tempo.trainer.checkpoints import Checkpoints
from tempo.trainer.recorder import Recorder
from tempo.trainer.stop_ranks_on_signal import StopOnSignal


@dataclass(frozen=True, kw_only=True)
class RunParts:
    """Parts of a run: data, module, trainer and the objects that record and save."""

    data: Data
    plan: BatchPlan
    module: Classifier
    recorder: Recorder
    checkpoints: Checkpoints
    trainer: pl.Trainer
    train_batches: Any
    val_batches: EvalBatches | None
    test_batches: EvalBatches


def build_run(
    request: RunRequest,
    record: RunRecord,
    start: Start,
    interruption: StopOnSignal,
    *,
    world_size: int,
    rank: int,
) -> RunParts:
    """Build the parts of a run.

    Raises:
        UserError: data, network, optimizer or devices cannot be built as configured.
    """
    config = request.config
    data = build_data(config)
    check_same_images(record, data.sha256)
    check_every_rank_has_images(data, world_size)
    plan = build_plan(config, len(data.train), world_size, rank)
    module = build_module(config, data, plan)
    if config.init_from and start.checkpoint is None:  # a checkpoint would overwrite these weights
        record.init_from = start_from(module.network, config.init_from)
    callbacks = build_callbacks(
        config,
        request.folder,
        record=record,
        data=data,
        module=module,
        interruption=interruption,
        trial=request.trial,
    )
    steps_done = start.step if config.resume else None
    loggers = build_loggers(config, request.folder, steps_done) if rank == 0 else []
    trainer = build_trainer(config, request.folder, plan, callbacks.in_order, loggers)
    data = replace(data, train=on_best_device(data.train, trainer.strategy.root_device))
    return RunParts(
        data=data,
        plan=plan,
        module=module,
        recorder=callbacks.recorder,
        checkpoints=callbacks.checkpoints,
        trainer=trainer,
        train_batches=module.loader(build_train_batches(config, data, module)),
        val_batches=None if data.val is None else build_eval_batches(config, data.val, plan),
        test_batches=build_eval_batches(config, data.test, plan),
    )
