"""Decide when a run's state is saved, which states are kept, which is the best and which is tested."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytorch_lightning as pl

from tempo.distributed.collectives import any_rank
from tempo.errors import UserError
from tempo.record.run_folder import BEST, LAST, PREVIOUS
from tempo.record.run_json import RUN_ID, Selected
from tempo.task.late_callback import LateCallback
from tempo.task.lightning_internals import is_last_chunk_of_epoch, saved_steps
from tempo.task.progress import Progress, steps_in
from tempo.trainer.checkpoint_file import check_readable, flush_to_disk, link, load
from tempo.trainer.recorder import Recorder

ONE_OF_BEST = "best_step{}.ckpt"


class Validated(NamedTuple):
    """A state that was validated: the monitored value, the optimizer steps done, and all its metrics."""

    value: float
    step: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class ChosenState:
    """The state that a run is tested with, and its entry in the record."""

    content: dict[str, Any]
    selected: Selected
    val_metrics: dict[str, float]
    """Metrics of its validation; empty for the last state, as the record already has them."""


class Checkpoints(LateCallback):
    """Saves the state at the end of each epoch and, on request, at intervals of steps or minutes.

    A file is written under another name, flushed to the disk and renamed. The last two are kept, so a power
    failure at any moment leaves a complete one. `best.ckpt` is the state with the best `monitor` on
    validation. Among equals the latest wins, as small validation sets often tie and the learning rate mostly
    falls. With `keep_best` = k > 1 the k best are also kept as `best_step<n>.ckpt`.

    This class guarantees that the tested state is the one in the record. A validated state is saved before
    training continues (`on_validation_end`, then `save`). Only a saved state can be the best
    (`_rank_validated`). That file is tested, and the record has its step (`state_to_test`). If a change
    breaks this chain, RuntimeError is raised instead of testing another state.
    """

    def __init__(
        self,
        *,
        folder: Path,
        recorder: Recorder,
        progress: Progress,
        validates: bool,
        monitor: str | None,
        mode: Literal["min", "max"],
        every_n_steps: int | None,
        every_n_minutes: float | None,
        keep_best: int,
    ) -> None:
        self.folder = folder
        self.recorder = recorder
        self.progress = progress
        self.validates = validates
        """Whether there is a validation split."""
        self.monitor = monitor
        self.sign = -1.0 if mode == "min" else 1.0
        self.every_n_steps = every_n_steps
        self.every_seconds = None if every_n_minutes is None else 60 * every_n_minutes
        self.keep_best = keep_best
        self.best: list[tuple[float, int]] = []
        """Value and step of the best saved states, the best one first; at most `keep_best`."""
        self.best_metrics: dict[str, float] = {}
        self._validated: Validated | None = None
        """The validated state that is not saved yet."""
        self._last_is_good = False
        """Whether `last.ckpt` is whole and of this run; one that was skipped never becomes previous.ckpt."""
        self._saved_step = 0
        self._saved_at = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        return {
            "best": [[value, step] for value, step in self.best],
            "best_metrics": self.best_metrics,
            "saved_step": self._saved_step,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        self.best = [(float(value), int(step)) for value, step in state_dict["best"]]
        self.best_metrics = {str(name): float(v) for name, v in state_dict["best_metrics"].items()}
        self._saved_step = int(state_dict["saved_step"])

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store the progress, the configuration's hash, the run it belongs to, and what the outputs mean."""
        check_readable(checkpoint.get("callbacks", {}))
        self.progress.save_into(checkpoint)
        checkpoint["config_hash"] = self.recorder.record.config_hash
        checkpoint[RUN_ID] = self.recorder.record.run_id
        checkpoint["data"] = dict(self.recorder.record.data)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore the progress; raise ValueError if Lightning's loops would resume at another step."""
        if saved_steps(checkpoint, pl_module) != checkpoint["global_step"]:
            raise ValueError("its two step counts differ")
        self._last_is_good = Path(str(trainer.ckpt_path)).name == LAST
        self.progress.load_from(checkpoint)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Save if it is due; after the last chunk of an epoch or of the run, wait for its validation."""
        step = self.progress.steps_done
        if self.progress.micro_batches_done or not self.progress.is_exact:
            return
        if is_last_chunk_of_epoch(trainer) or step >= self.progress.total_steps:
            return
        by_steps = self.every_n_steps is not None and (
            step // self.every_n_steps > self._saved_step // self.every_n_steps
        )
        by_time = self.every_seconds is not None and any_rank(
            trainer.strategy, time.monotonic() - self._saved_at >= self.every_seconds
        )
        if by_steps or by_time:
            self.save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember the state that was validated until it is saved."""
        if self._validated is not None:
            raise _not_saved(self._validated)
        if self.monitor is None:
            return
        found = self.progress.evaluated
        value = evaluated_value(found, self.monitor)
        if math.isfinite(value):  # NaN compares as false, so it would never be beaten
            self._validated = Validated(value, self.progress.steps_done, dict(found))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the state that was just validated, or the epoch's last one.

        `run.train.fit` saves the end of a run that is not validated yet, after its validation: a run that is
        killed between two states of one step would log the validation twice.
        """
        is_over = trainer.should_stop or self.progress.steps_done >= self.progress.total_steps
        if is_over and self.validates and self.recorder.validated_step != self.progress.steps_done:
            return
        self.save(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        """Write `last.ckpt`; the one before becomes `previous.ckpt`."""
        self.progress.before_saving()
        self.recorder.flush(trainer)  # raises `Diverged`, so that a diverged state is never saved
        self._saved_step, self._saved_at = self.progress.steps_done, time.monotonic()
        ranked = self._rank_validated(self.progress.steps_done)
        unfinished = self.folder / f".{LAST}.unfinished"
        trainer.save_checkpoint(unfinished)
        if trainer.is_global_zero:
            last, previous = self.folder / LAST, self.folder / PREVIOUS
            self.recorder.flush_to_disk(trainer)
            if ranked is not None:
                self._keep_as_best(unfinished, ranked.step)
            if self._last_is_good:
                last.replace(previous)
            self._last_is_good = True
            unfinished.replace(last)
            flush_to_disk(self.folder)

    def state_to_test(self, select: Literal["best", "last"], steps: int) -> ChosenState:
        """Return the state to test after `steps` optimizer steps: the best on validation, or the last.

        If no validation was finite, return the last state.
        """
        if self._validated is not None:
            raise _not_saved(self._validated)
        if select == "last" or not self.best:
            name, metrics = LAST, {}
            selected: Selected = {"by": "last", "value": None, "step": steps}
        else:
            name, metrics = BEST, self.best_metrics
            value, step = self.best[0]
            selected = {"by": str(self.monitor), "value": value, "step": step}
        content = load(self.folder / name)
        if steps_in(content) != selected["step"]:
            raise RuntimeError(
                f"{name} was saved at step {steps_in(content)}, but the state to test is from step "
                f"{selected['step']}"
            )
        return ChosenState(content, selected, metrics)

    def _rank_validated(self, step: int) -> Validated | None:
        """Rank the validated state that is about to be saved; return it if it is among the best."""
        if self._validated is not None and self._validated.step != step:
            raise _not_saved(self._validated)
        state, self._validated = self._validated, None
        if state is None:
            return None
        entry = (state.value, state.step)
        ranked = sorted([*self.best, entry], key=lambda best: (self.sign * best[0], best[1]), reverse=True)
        self.best = ranked[: self.keep_best]
        if self.best[0] == entry:
            self.best_metrics = state.metrics
        return state if entry in self.best else None

    def _keep_as_best(self, state: Path, step: int) -> None:
        if self.best[0][1] == step:
            link(state, self.folder / BEST)
        if self.keep_best == 1:
            return
        link(state, self.folder / ONE_OF_BEST.format(step))
        kept = {ONE_OF_BEST.format(best_step) for _, best_step in self.best}
        for path in self.folder.glob(ONE_OF_BEST.format("*")):
            if path.name not in kept:
                path.unlink()


def evaluated_value(found: Mapping[str, float], metric: str) -> float:
    """Return a metric of an evaluation; `metric` has its split before it, as in `val/loss`.

    Raises:
        UserError: nothing logged it; the line lists what was logged.
    """
    split, _, name = metric.partition("/")
    if name not in found:
        logged = ", ".join(f"{split}/{known}" for known in found)
        remedy = f"set objective={split}/{next(iter(found))}" if found else "log it with self.log"
        raise UserError(f"objective={metric} is not logged; {remedy} (logged: {logged or 'nothing'})")
    return found[name]


def _not_saved(state: Validated) -> RuntimeError:
    return RuntimeError(
        f"the state validated at step {state.step} was not saved before training went on: it cannot be tested"
    )


def newest_resumable(
    folder: Path, config_hash: str, *, run_id: str = "", needs_best: bool
) -> tuple[Path | None, list[str]]:
    """Return the newest checkpoint from which a run can resume, and one line per unusable checkpoint.

    A checkpoint belongs to one configuration and, if both are known, to one run: `run_id`.

    The path is None if there is none, or if `needs_best` is set and the best state is lost. In that case only
    training from the start can find the best state again.
    """
    complaints = []
    for name in (LAST, PREVIOUS):
        path = folder / name
        if not path.exists():
            continue
        try:
            content = load(path)
            has_best = bool(_at(content, path, "callbacks", Checkpoints.__name__, "best"))
            owner = _at(content, path, "config_hash")
        except UserError as error:
            complaints.append(
                f"{error}; resuming from {'the one before it' if name == LAST else 'the start of the run'}"
            )
            continue
        if owner != config_hash:
            complaints.append(f"{path} belongs to configuration {owner}, not {config_hash}; skipped")
        elif _is_of_another_run(content, run_id):
            complaints.append(f"{path} belongs to another run of the same configuration; skipped")
        elif needs_best and has_best and _has_lost_best(folder, str(content.get(RUN_ID, ""))):
            complaints.append(f"{folder / BEST} is damaged or missing; starting the run again")
            return None, complaints
        else:
            return path, complaints
    return None, complaints


def _at(content: Any, path: Path, *keys: str) -> Any:
    """Return a nested value of a checkpoint; raise UserError if no run of tempo saved it."""
    for key in keys:
        if not isinstance(content, dict) or key not in content:
            raise UserError(f"{path} is not a checkpoint of a run: it has no {'.'.join(keys)}")
        content = content[key]
    return content


def _is_of_another_run(content: dict[str, Any], run_id: str) -> bool:
    """Whether a checkpoint belongs to another run; False if it or the run has no id, as older ones."""
    return bool(run_id) and content.get(RUN_ID, "") not in ("", run_id)


def _has_lost_best(folder: Path, run_id: str) -> bool:
    best, last = folder / BEST, folder / LAST
    try:
        return _is_of_another_run(load(best), run_id)
    except UserError:
        # If the best state is also the last one, training from the previous checkpoint reaches it again.
        return not (best.exists() and last.exists() and best.samefile(last))


def remove_traces(folder: Path) -> None:
    """Remove only the checkpoints and events left in this folder by an earlier run without a result."""
    checkpoints = folder / "checkpoints"
    for path in (checkpoints / LAST, checkpoints / PREVIOUS, checkpoints / BEST):
        path.unlink(missing_ok=True)
    for path in checkpoints.glob(ONE_OF_BEST.format("*")):
        path.unlink()
    for events in (folder / "tensorboard").glob("events.out.tfevents.*"):
        events.unlink()
