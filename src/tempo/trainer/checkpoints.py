"""Saves a run's state: the last one, the one before it, and the best."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from tempo.errors import UserError
from tempo.run_folder import BEST, LAST, PREVIOUS
from tempo.trainer.module import Classifier
from tempo.trainer.recorder import Recorder


class Checkpoints(pl.Callback):
    """A checkpoint at the end of each epoch and, on request, every so many steps or minutes.

    A file is written beside its name, flushed to the disk and renamed; the last two are kept, so a machine
    that loses its power at any moment leaves one that is whole. `best.ckpt` is the state with the best
    `monitor` on validation (the latest of equals: small validation sets tie often, and the rate only falls).
    """

    def __init__(
        self,
        *,
        folder: Path,
        recorder: Recorder,
        monitor: str | None,
        every_n_steps: int | None,
        every_n_minutes: float | None,
    ) -> None:
        self.folder = folder
        self.recorder = recorder
        self.monitor = monitor
        self.sign = -1.0 if monitor is not None and monitor.endswith("loss") else 1.0
        self.every_n_steps = every_n_steps
        self.every_seconds = None if every_n_minutes is None else 60 * every_n_minutes
        self.best_value: float | None = None
        self.best_step = 0
        self.best_metrics: dict[str, float] = {}
        self._saved_step = 0
        self._saved_at = time.monotonic()
        self._has_gained = False

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run goes on from; plain values."""
        return {
            "best_value": self.best_value,
            "best_step": self.best_step,
            "best_metrics": self.best_metrics,
            "saved_step": self._saved_step,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.best_value = state_dict["best_value"]
        self.best_step = state_dict["best_step"]
        self.best_metrics = state_dict["best_metrics"]
        self._saved_step = state_dict["saved_step"]

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Save where the steps or minutes are over; the last chunk of an epoch waits for its validation."""
        step = trainer.global_step
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            return
        by_steps = self.every_n_steps is not None and (
            step // self.every_n_steps > self._saved_step // self.every_n_steps
        )
        by_time = self.every_seconds is not None and trainer.strategy.reduce_boolean_decision(
            time.monotonic() - self._saved_at >= self.every_seconds, all=False
        )
        if by_steps or by_time:
            self.save(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Say whose state this is."""
        checkpoint["config_hash"] = self.recorder.record.config_hash

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare the objective with the best one so far."""
        assert isinstance(pl_module, Classifier)
        if self.monitor is None:
            return
        value = pl_module.evaluated[self.monitor.split("/")[1]]
        if not math.isfinite(value):
            return  # would never be beaten
        if self.best_value is None or self.sign * value >= self.sign * self.best_value:
            self.best_value, self.best_step, self._has_gained = value, trainer.global_step, True
            self.best_metrics = {name: pl_module.evaluated[name] for name in ("loss", "accuracy")}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, and keep the file as the best one where it is."""
        self.save(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        """Write `last.ckpt`; the one before becomes `previous.ckpt`."""
        module = trainer.lightning_module
        assert isinstance(module, Classifier)
        self.recorder.flush(trainer, module)  # a state whose loss is not finite is not worth keeping
        self._saved_step, self._saved_at = trainer.global_step, time.monotonic()
        unfinished = self.folder / f".{LAST}.unfinished"
        try:
            trainer.save_checkpoint(unfinished)
        except OSError as error:  # names a temporary file of Lightning's
            raise OSError(error.errno, error.strerror, str(self.folder)) from error
        if trainer.is_global_zero:
            last, previous = self.folder / LAST, self.folder / PREVIOUS
            _flush_to_disk(unfinished)
            if self._has_gained:
                _link(unfinished, self.folder / BEST)
            if last.exists():
                last.replace(previous)
            unfinished.replace(last)
            _flush_to_disk(self.folder)
        self._has_gained = False


def newest_whole(folder: Path, config_hash: str) -> tuple[Path | None, list[str]]:
    """The newest checkpoint of a configuration that can be read, and a line for each that cannot."""
    complaints = []
    for name in (LAST, PREVIOUS):
        path = folder / name
        if not path.exists():
            continue
        try:
            whose = load(path).get("config_hash")
        except UserError as error:
            complaints.append(f"{error}; going on from the one before it")
            continue
        if whose == config_hash:
            return path, complaints
        complaints.append(f"{path} is of another configuration ({whose}, not {config_hash}); passed over")
    return None, complaints


def clear_traces(folder: Path) -> None:
    """Remove checkpoints and events of a run that came to nothing in this folder; nothing else is touched."""
    for name in (LAST, PREVIOUS, BEST):
        (folder / "checkpoints" / name).unlink(missing_ok=True)
    for events in (folder / "tensorboard").glob("events.out.tfevents.*"):
        events.unlink()


def load(path: Path) -> dict[str, Any]:
    """A checkpoint's content, plain values and tensors only: nothing in the file can run code.

    Raises:
        UserError: the file is missing, cut short, damaged or holds other than plain values.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist: the run has saved no such checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{path} is damaged or no checkpoint ({type(error).__name__})") from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise UserError(f"{path} is no checkpoint of a run: it has no state_dict")
    return content


def _link(source: Path, target: Path) -> None:
    """Make `target` a second name of `source`'s file, in one step."""
    beside = target.with_name(f".{target.name}.unfinished")
    beside.unlink(missing_ok=True)
    try:
        os.link(source, beside)
    except OSError:  # a file system without hard links
        beside.write_bytes(source.read_bytes())
        _flush_to_disk(beside)
    beside.replace(target)


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
