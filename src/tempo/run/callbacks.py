"""Build the callbacks of a run, in the order in which Lightning must call them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl

from tempo.config.schema import RunConfig
from tempo.data.run_data_module import RunDataModule
from tempo.record.metric_names import metric_mode
from tempo.record.run_json import RunRecord
from tempo.run.build_module import Task
from tempo.task.classifier import Classifier
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
    """All callbacks, and the two that the run also uses directly."""

    in_order: list[pl.Callback]
    recorder: Recorder
    checkpoints: Checkpoints


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
    callbacks read them, and a checkpoint is written before any callback may stop the run.
    """
    progress, is_classifier = task.progress, isinstance(task.module, Classifier)
    metric = monitored_metric(config, is_classifier)
    mode = metric_mode(metric, config.objective_mode)
    ranks = data.has_val and (
        config.checkpoint.select == "best" or config.objective == metric or is_classifier
    )
    divergence = DivergenceWatch(config.divergence.factor, len(data.classes) if is_classifier else None)
    recorder = Recorder(
        record=record,
        folder=folder,
        progress=progress,
        divergence=divergence,
        compiles=config.trainer.compile and is_classifier,
        logs_metrics=is_classifier,
    )
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(
        folder=folder / "checkpoints",
        recorder=recorder,
        progress=progress,
        monitor=metric if ranks else None,
        mode=mode,
        every_n_steps=config.checkpoint.every_n_steps,
        every_n_minutes=config.checkpoint.every_n_minutes,
        keep_best=config.checkpoint.keep_best,
    )
    interruption.checkpoints = checkpoints
    lines = ProgressLines(progress, validates=data.has_val)
    recorder.listeners.append(lines.row)

    in_order: list[pl.Callback] = [
        *task.first_callbacks,
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
    in_order += [checkpoints, interruption, lines]
    if trial is not None and data.has_val:
        in_order.append(Pruning(trial, config.objective.split("/")[1], progress))
    return Callbacks(in_order, recorder, checkpoints)


def monitored_metric(config: RunConfig, is_classifier: bool) -> str:
    """Return the validation metric that ranks states: the objective, or its like if that is of another split.

    A classifier's states are ranked by accuracy then, those of another module by the same name.
    """
    split, _, name = config.objective.partition("/")
    if split == "val":
        return config.objective
    return "val/accuracy" if is_classifier and name in ("loss", "accuracy") else f"val/{name}"
