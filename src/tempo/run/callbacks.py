"""Build the callbacks of a run, in the order in which Lightning must call them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from tempo.config.callback_targets import callback_nodes, check_allowed
from tempo.config.hydra_targets import instantiated
from tempo.config.schema import RunConfig
from tempo.data.run_data_module import RunDataModule
from tempo.errors import UserError
from tempo.record.metric_names import metric_mode
from tempo.record.run_json import RunRecord
from tempo.run.build_module import Task
from tempo.task.classifier import Classifier
from tempo.task.stepping import watches_batches
from tempo.trainer.checkpoints import Checkpoints
from tempo.trainer.console import ProgressLines
from tempo.trainer.energy import EnergyMeter
from tempo.trainer.optuna_trial import Trial
from tempo.trainer.recorder import CurveOnTest, Recorder
from tempo.trainer.same_config_on_ranks import SameSettings
from tempo.trainer.stop_ranks_on_signal import StopOnSignal
from tempo.trainer.stopping_rules import DivergenceWatch, EarlyStopping, Pruning


@dataclass(frozen=True)
class Callbacks:
    """All callbacks, and the two that the run also uses directly.

    `one_step`: a callback of the configuration wants to see each step.
    """

    in_order: list[pl.Callback]
    recorder: Recorder
    checkpoints: Checkpoints
    one_step: bool


def build_callbacks(
    config: RunConfig,
    folder: Path,
    *,
    record: RunRecord,
    data: RunDataModule,
    task: Task,
    interruption: StopOnSignal,
    trial: Trial | None,
) -> Callbacks:
    """Build the callbacks that the configuration asks for.

    The order matters. The check that ranks agree comes first. The recorder flushes losses before other
    callbacks read them, and a checkpoint is written before any callback of ours may stop the run. Those of
    the configuration come before the checkpoint, which holds their state.
    """
    progress, is_classifier = task.progress, isinstance(task.module, Classifier)
    metric = monitored_metric(config, is_classifier)
    mode = metric_mode(metric, config.objective_mode)
    ranks = data.has_val and (
        config.checkpoint.select == "best" or config.objective == metric or is_classifier
    )
    recorder = _recorder(config, folder, record, data, task)
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(
        folder=folder / "checkpoints",
        recorder=recorder,
        progress=progress,
        validates=data.has_val,
        monitor=metric if ranks else None,
        mode=mode,
        every_n_steps=config.checkpoint.every_n_steps,
        every_n_minutes=config.checkpoint.every_n_minutes,
        keep_best=config.checkpoint.keep_best,
    )
    interruption.checkpoints = checkpoints
    lines = ProgressLines(progress, validates=data.has_val)
    recorder.listeners.append(lines.row)

    own = _own_callbacks(config)
    one_step = any(map(watches_batches, own))
    in_order: list[pl.Callback] = [
        *task.first_callbacks,
        *([ScheduleFirst()] if one_step and type(task.module) is Classifier else []),
        CheckCallbacks(),
        SameSettings({**config.values, "images": data.sha256}),
    ]
    in_order.append(recorder)
    if (every := config.trainer.test_every_n_epochs) is not None:
        in_order.append(CurveOnTest(recorder, data, every))
    if (patience := config.early_stopping.patience) is not None and data.has_val:
        min_delta = config.early_stopping.min_delta
        in_order.append(
            EarlyStopping(
                monitor=metric, mode=mode, progress=progress, patience=patience, min_delta=min_delta
            )
        )
    if config.trainer.energy:
        in_order.append(EnergyMeter(record))
    in_order += [*own, checkpoints, interruption, lines]
    if trial is not None and data.has_val:
        in_order.append(Pruning(trial, config.objective.partition("/")[2], progress))
    return Callbacks(in_order, recorder, checkpoints, one_step)


def _recorder(
    config: RunConfig, folder: Path, record: RunRecord, data: RunDataModule, task: Task
) -> Recorder:
    is_classifier = isinstance(task.module, Classifier)
    starts_at_chance = isinstance(task.module, Classifier) and task.module.loss.starts_at_chance
    return Recorder(
        record=record,
        folder=folder,
        progress=task.progress,
        divergence=DivergenceWatch(config.divergence.factor, len(data.classes) if starts_at_chance else None),
        metrics=config.metrics or (),
        compiles=config.trainer.compile and is_classifier,
        logs_metrics=is_classifier,
    )


def _own_callbacks(config: RunConfig) -> list[pl.Callback]:
    """Build the callbacks of the configuration."""
    own = []
    for where, node in callback_nodes(config.callbacks).items():
        built = instantiated("callbacks", node)
        if not isinstance(built, pl.Callback):
            raise UserError(
                f"{where}._target_={node['_target_']} builds a {type(built).__name__}, not a "
                f"pytorch_lightning.Callback; set {where}._target_=<a class of them>, or {where}=null"
            )
        _check_class(where, built)
        own.append(built)
    return own


class CheckCallbacks(pl.Callback):
    """Refuses callbacks of a module's `configure_callbacks` by the rules for those of the configuration."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check all callbacks; Lightning has added the module's by now."""
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if not type(callback).__module__.startswith("tempo."):
                _check_class(f"configure_callbacks of {type(pl_module).__name__}", callback)


def _check_class(where: str, callback: pl.Callback) -> None:
    check_allowed(where, ((kind.__module__, kind.__name__) for kind in type(callback).__mro__))


def monitored_metric(config: RunConfig, is_classifier: bool) -> str:
    """Return the validation metric that ranks states: the objective, or its like if that is of another split.

    A classifier's states are ranked by accuracy then, those of another module by the same name.
    """
    split, _, name = config.objective.partition("/")
    if split == "val":
        return config.objective
    return "val/accuracy" if is_classifier and name in ("loss", "accuracy") else f"val/{name}"


class ScheduleFirst(pl.Callback):
    """Writes a step's scheduled values before other callbacks look at it, where each call is one step."""

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set learning rate and momentum; `training_step` sets the same again."""
        assert isinstance(pl_module, Classifier)
        pl_module.schedule_adapter.apply(trainer.global_step)
