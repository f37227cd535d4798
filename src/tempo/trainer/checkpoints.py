"""Saves a run's state: the last one, the one before it, and the best."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from tempo.errors import UserError
from tempo.record.run_folder import BEST, LAST, PREVIOUS
from tempo.task.classifier import Classifier
from tempo.task.lightning_internals import is_last_chunk_of_epoch
from tempo.trainer.checkpoint_file import flush_to_disk, link, load
from tempo.trainer.recorder import Recorder
from tempo.trainer.saved_state import check_state

OF_BEST = "best_step{}.ckpt"


class Checkpoints(pl.Callback):
    """A checkpoint at the end of each epoch and, on request, every so many steps or minutes.

    A file is written beside its name, flushed to the disk and renamed; the last two are kept, so a machine
    that loses its power at any moment leaves one that is whole. `best.ckpt` is the state with the best
    `monitor` on validation (the latest of equals: small validation sets tie often, and the rate only falls).
    With `keep_best` k > 1 the k best are kept as `best_step<n>.ckpt` as well.
    """

    def __init__(
        self,
        *,
        folder: Path,
        recorder: Recorder,
        monitor: str | None,
        every_n_steps: int | None,
        every_n_minutes: float | None,
        keep_best: int,
    ) -> None:
        self.folder = folder
        self.recorder = recorder
        self.monitor = monitor
        self.sign = -1.0 if monitor is not None and monitor.endswith("loss") else 1.0
        self.every_n_steps = every_n_steps
        self.every_seconds = None if every_n_minutes is None else 60 * every_n_minutes
        self.keep_best = keep_best
        self.best: list[tuple[float, int]] = []
        """Value and step of the best states, the best one first; at most `keep_best`."""
        self.best_metrics: dict[str, float] = {}
        self._saved_step = 0
        self._saved_at = time.monotonic()
        self._is_among_best = False

    @property
    def best_value(self) -> float | None:
        """The best value so far; None before the first finite one."""
        return self.best[0][0] if self.best else None

    @property
    def best_step(self) -> int:
        """The step of the best value; 0 before the first."""
        return self.best[0][1] if self.best else 0

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run goes on from; plain values."""
        return {
            "best": [list(each) for each in self.best],
            "best_metrics": self.best_metrics,
            "saved_step": self._saved_step,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.best = [(value, step) for value, step in state_dict["best"]]
        self.best_metrics = state_dict["best_metrics"]
        self._saved_step = state_dict["saved_step"]

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Save where the steps or minutes are over; the last chunk of an epoch waits for its validation."""
        step = trainer.global_step
        if is_last_chunk_of_epoch(trainer):
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
        now = (value, trainer.global_step)
        found = sorted([*self.best, now], key=lambda each: (self.sign * each[0], each[1]), reverse=True)
        self.best = found[: self.keep_best]
        self._is_among_best = now in self.best
        if self.best[0] == now:
            self.best_metrics = {name: pl_module.evaluated[name] for name in ("loss", "accuracy")}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, and keep the file as the best one where it is."""
        self.save(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        """Write `last.ckpt`; the one before becomes `previous.ckpt`."""
        module = trainer.lightning_module
        assert isinstance(module, Classifier)
        module.synchronize()
        self.recorder.flush(trainer, module)  # a state whose loss is not finite is not worth keeping
        self._saved_step, self._saved_at = trainer.global_step, time.monotonic()
        unfinished = self.folder / f".{LAST}.unfinished"
        trainer.save_checkpoint(unfinished)
        if trainer.is_global_zero:
            last, previous = self.folder / LAST, self.folder / PREVIOUS
            self.recorder.settle(trainer)
            if self._is_among_best:
                self._link_best(unfinished)
            if last.exists():
                last.replace(previous)
            unfinished.replace(last)
            flush_to_disk(self.folder)
        self._is_among_best = False

    def _link_best(self, state: Path) -> None:
        """Give the state that was just validated its place among the best ones."""
        validated = self.recorder.validated_step
        if self.best_step == validated:
            link(state, self.folder / BEST)
        if self.keep_best == 1:
            return
        link(state, self.folder / OF_BEST.format(validated))
        kept = {OF_BEST.format(step) for _, step in self.best}
        for path in self.folder.glob(OF_BEST.format("*")):
            if path.name not in kept:
                path.unlink()


def newest_whole(folder: Path, config_hash: str, *, needs_best: bool) -> tuple[Path | None, list[str]]:
    """The newest checkpoint of a configuration that can be gone on from, and a line for each that cannot.

    None where there is none, or where `needs_best` and the best state is lost: only the run as a whole would
    find it again.
    """
    complaints = []
    for name in (LAST, PREVIOUS):
        path = folder / name
        if not path.exists():
            continue
        try:
            content = load(path)
            check_state(content, path)
        except UserError as error:
            complaints.append(
                f"{error}; {'going on from the one before it' if name == LAST else 'beginning again'}"
            )
            continue
        whose = content.get("config_hash")
        if whose != config_hash:
            complaints.append(f"{path} is of another configuration ({whose}, not {config_hash}); passed over")
        elif needs_best and _has_lost_best(folder, content):
            complaints.append(f"{folder / BEST} is damaged or gone; beginning again")
            return None, complaints
        else:
            return path, complaints
    return None, complaints


def _has_lost_best(folder: Path, content: dict[str, Any]) -> bool:
    best, last = folder / BEST, folder / LAST
    if not content["callbacks"][Checkpoints.__name__]["best"]:
        return False
    try:
        load(best)
    except UserError:
        # A state that was the last one as well comes again on the way from the one before it.
        return not (best.exists() and last.exists() and best.samefile(last))
    return False


def clear_traces(folder: Path) -> None:
    """Remove checkpoints and events of a run that came to nothing in this folder; nothing else is touched."""
    checkpoints = folder / "checkpoints"
    for path in (checkpoints / LAST, checkpoints / PREVIOUS, checkpoints / BEST):
        path.unlink(missing_ok=True)
    for path in checkpoints.glob(OF_BEST.format("*")):
        path.unlink()
    for events in (folder / "tensorboard").glob("events.out.tfevents.*"):
        events.unlink()
