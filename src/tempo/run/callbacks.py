"""Build the callbacks of a run, in the order in which Lightning must call them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytorch_lightning as pl

from tempo.config.schema import RunConfig
from tempo.record.run_json import RunRecord
from tempo.run.build_data import Data, build_eval_batches
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
    data: Data,
    module: Classifier,
    interruption: StopOnSignal,
    trial: Trial | None,
) -> Callbacks:
    """Build the callbacks that the configuration asks for.

    The order matters. The check that ranks agree comes first. The recorder flushes losses before other
    callbacks read them, and a checkpoint is written before any callback may stop the run.
    """
    metric = monitored_metric(config)
    divergence = DivergenceWatch(config.divergence.factor, len(data.train.classes))
    recorder = Recorder(record=record, folder=folder, divergence=divergence, compiles=config.trainer.compile)
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(
        folder=folder / "checkpoints",
        recorder=recorder,
        monitor=metric if data.val is not None else None,
        every_n_steps=config.checkpoint.every_n_steps,
        every_n_minutes=config.checkpoint.every_n_minutes,
        keep_best=config.checkpoint.keep_best,
    )
    interruption.checkpoints = checkpoints
    progress = ProgressLines(
        module.total_steps, -(-module.total_steps // module.plan.steps_per_epoch), data.val is not None
    )
    recorder.listeners.append(progress.row)

    in_order: list[pl.Callback] = [
        *module.first_callbacks(),
        SameSettings({**config.values, "images": data.sha256}),
    ]
    in_order.append(recorder)
    if (every := config.trainer.test_every_n_epochs) is not None:
        in_order.append(CurveOnTest(recorder, build_eval_batches(config, data.test, module.plan), every))
    if (patience := config.early_stopping.patience) is not None and data.val is not None:
        in_order.append(
            EarlyStopping(
                monitor=metric,
                mode=metric_mode(metric),
                patience=patience,
                min_delta=config.early_stopping.min_delta,
            )
        )
    if config.trainer.energy:
        in_order.append(EnergyMeter(record))
    in_order += [checkpoints, interruption, progress]
    if trial is not None and data.val is not None:
        in_order.append(Pruning(trial, config.objective.split("/")[1]))
    return Callbacks(in_order, recorder, checkpoints)


def monitored_metric(config: RunConfig) -> str:
    """Return the validation metric that ranks states: the objective, or else accuracy."""
    objective = config.objective
    return objective if objective.startswith("val/") else "val/accuracy"


def metric_mode(metric: str) -> Literal["min", "max"]:
    """Return "min" or "max": which value of a metric is the best."""
    return "min" if metric.endswith("loss") else "max"
