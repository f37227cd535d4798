"""Build every part of a run before its first step."""

from __future__ import annotations

from dataclasses import dataclass

import pytorch_lightning as pl

from tempo.data.batches import BatchPlan
from tempo.data.run_data_module import RunDataModule
from tempo.record.run_json import RunRecord
from tempo.run.build_data import build_data, build_plan, check_every_rank_has_images, move_to_best_device
from tempo.run.build_module import Task, build_task, connect_data
from tempo.run.build_trainer import build_loggers, build_trainer
from tempo.run.callbacks import build_callbacks
from tempo.run.check_own_module import overrides_hook
from tempo.run.resume import Start, check_same_images
from tempo.run.run_request import RunRequest
from tempo.run.start_weights import start_from
from tempo.trainer.checkpoints import Checkpoints
from tempo.trainer.recorder import Recorder
from tempo.trainer.stop_ranks_on_signal import StopOnSignal


@dataclass(frozen=True, kw_only=True)
class RunParts:
    """Parts of a run: data, what is trained, the trainer, and the objects that record and save."""

    data: RunDataModule
    plan: BatchPlan
    task: Task
    recorder: Recorder
    checkpoints: Checkpoints
    trainer: pl.Trainer

    @property
    def tests(self) -> bool:
        """Whether there is a test set, and the module can test on it."""
        return self.data.has_test and overrides_hook(self.task.module, "test_step")


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
    plan = build_plan(config, data, world_size, rank)
    task = build_task(config, data, plan)
    if config.init_from and start.checkpoint is None:  # a checkpoint would overwrite these weights
        record.init_from = start_from(task.network, config.init_from, config.init.ignore or ())
    callbacks = build_callbacks(
        config,
        request.folder,
        record=record,
        data=data,
        task=task,
        interruption=interruption,
        trial=request.trial,
    )
    steps_done = start.step if config.resume else None
    loggers = build_loggers(config, request.folder, steps_done, rank, record.run_id)
    trainer = build_trainer(
        config, request.folder, plan, callbacks.in_order, loggers, task.module, validates=data.has_val
    )
    move_to_best_device(data, trainer.strategy.root_device)
    connect_data(config, data, task, one_step=callbacks.one_step)
    return RunParts(
        data=data,
        plan=plan,
        task=task,
        recorder=callbacks.recorder,
        checkpoints=callbacks.checkpoints,
        trainer=trainer,
    )
