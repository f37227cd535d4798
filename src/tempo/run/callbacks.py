"""The callbacks of a run, in the order in which Lightning must call them."""

from __future__ import annotations

from dataclasses import dataclass

import pytorch_lightning as pl

from tempo.config.check import Config
from tempo.data.batches import BatchPlan
from tempo.record.run_json import RunRecord
from tempo.run import build
from tempo.run.build import Data
from tempo.run.describe import mode
from tempo.run.run_request import RunRequest
from tempo.task.async_classifier import AsyncClassifier, Beginning
from tempo.task.classifier import Classifier
from tempo.trainer.agreement import Agreement
from tempo.trainer.checkpoints import Checkpoints
from tempo.trainer.console import ProgressLines
from tempo.trainer.divergence import DivergenceWatch
from tempo.trainer.early_stopping import EarlyStopping
from tempo.trainer.energy import EnergyMeter
from tempo.trainer.interruption import Interruption
from tempo.trainer.pruning import Pruning
from tempo.trainer.recorder import Recorder
from tempo.trainer.test_curve import CurveOnTest


@dataclass(frozen=True)
class Callbacks:
    """All of them, and the two that a run asks for more than Lightning does."""

    in_order: list[pl.Callback]
    recorder: Recorder
    checkpoints: Checkpoints


def build_callbacks(
    job: RunRequest,
    record: RunRecord,
    data: Data,
    plan: BatchPlan,
    module: Classifier,
    interruption: Interruption,
) -> Callbacks:
    """What conf/ asks for: ranks agree first; a checkpoint is written before anything may stop the run."""
    config, monitor = job.config, monitor_of(job.config, data)
    divergence = DivergenceWatch(config["divergence"]["factor"], len(data.train.classes))
    recorder = Recorder(record=record, folder=job.folder, divergence=divergence)
    in_order: list[pl.Callback] = [Beginning()] if isinstance(module, AsyncClassifier) else []
    in_order += [Agreement({**config, "images": data.sha256}), recorder]
    if (every := config["trainer"]["test_every_n_epochs"]) is not None:
        batches = build.build_eval_batches(config, data.test, plan)
        in_order.append(CurveOnTest(recorder, batches, every))
    if config["early_stopping"]["patience"] is not None and monitor is not None:
        in_order.append(_early_stopping(config, monitor))
    if config["trainer"].get("energy"):
        in_order.append(EnergyMeter(record))
    folder = job.folder / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(
        folder=folder,
        recorder=recorder,
        monitor=monitor,
        every_n_steps=config["checkpoint"]["every_n_steps"],
        every_n_minutes=config["checkpoint"]["every_n_minutes"],
        keep_best=config["checkpoint"]["keep_best"],
    )
    interruption.checkpoints, interruption.stop_after = checkpoints, job.stop_after
    total = module.total_steps
    progress = ProgressLines(total, -(-total // plan.steps_per_epoch), data.val is not None)
    recorder.listeners.append(progress.row)
    in_order += [checkpoints, interruption, progress]
    if job.trial is not None and data.val is not None:
        in_order.append(Pruning(job.trial, config["objective"].split("/")[1]))
    return Callbacks(in_order, recorder, checkpoints)


def monitor_of(config: Config, data: Data) -> str | None:
    """What validation is judged by: the objective where it is one of validation; None without validation."""
    if data.val is None:
        return None
    objective = str(config["objective"])
    return objective if objective.startswith("val/") else "val/accuracy"


def _early_stopping(config: Config, monitor: str) -> pl.Callback:
    return EarlyStopping(
        monitor=monitor,
        mode=mode(monitor),
        patience=config["early_stopping"]["patience"],
        min_delta=config["early_stopping"]["min_delta"],
    )
