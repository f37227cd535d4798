"""Train a user's LightningModule: each step's seed and schedule, and the values that it logs."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from tempo.data.random_seeds import EVALUATION_START, TRAINED_STEP, mixed_seed, seed_global_generators
from tempo.distributed.collectives import all_gather_bytes
from tempo.errors import UserError
from tempo.scheduler.apply_to_optimizer import ScheduleAdapter
from tempo.task.epoch_means import EpochMeans
from tempo.task.late_callback import LateCallback
from tempo.task.lightning_internals import (
    chunks_begun_in_epoch,
    ends_an_epoch,
    finish_restart,
    logged_in_training,
    set_max_steps,
)
from tempo.task.progress import Progress
from tempo.task.rank_buffers import average_buffers, load_buffers, save_buffers

_SPLIT_PREFIX = re.compile(r"^(train|training|val|valid|validation|test)[/_]")
log = logging.getLogger(__name__)

_FORKED = re.compile(r"_(step|epoch)$")
_SPLIT_SUFFIX = re.compile(r"[/_](train|val|test)$")


class StepByStep(pl.Callback):
    """Keeps the `Progress` of a module that trains itself, under automatic or manual optimization.

    It comes first among the callbacks. Before each micro-batch it seeds the global generators from (seed,
    rank, number of the micro-batch), so whatever the module draws is repeated when a run is resumed. Before
    each optimizer step it writes the schedule's values into the optimizer, if the run has a schedule. A step
    is one batch, or `plan.accumulate` batches under automatic optimization.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.adapter: ScheduleAdapter | None = None
        self._losses: list[Tensor] = []
        """Losses of the micro-batches of the step that is being taken."""
        self._before: dict[str, Tensor] = {}
        """What was logged before the running epoch or evaluation."""
        self._restored: set[str] = set()
        """Names that the running epoch logged before the run was resumed in it."""
        self._means = EpochMeans()
        self._last: dict[str, Tensor] = {}
        """Values of the last step whose training_step returned no loss."""
        self._resumed: dict[str, Any] | None = None
        """The checkpoint of a resumed run, until its training starts."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let `trainer.estimated_stepping_batches` be the steps of the run in `configure_optimizers`."""
        if stage == "fit":
            set_max_steps(trainer, self.progress.total_steps)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the loader end the run again: Lightning would count the steps of each optimizer."""
        set_max_steps(trainer, -1)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Connect the schedule with the optimizer."""
        if (schedule := self.progress.schedule) is not None:
            self.adapter = ScheduleAdapter(trainer.optimizers[0], schedule, self.progress.total_steps)
        if self._resumed is not None:
            self._restore_logged(trainer, self._resumed)
            self._update_missed_schedulers(trainer, pl_module, ends_an_epoch(self._resumed))
            self._resumed = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember what was logged so far."""
        self._before, self._restored = dict(trainer.callback_metrics), set()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed the generators, and at the start of a step set learning rate and momentum."""
        progress = self.progress
        number = progress.steps_done * progress.plan.accumulate + progress.micro_batches_done
        self._seed(pl_module, TRAINED_STEP, number)
        if self.adapter is not None and progress.micro_batches_done == 0:
            self.adapter.apply(progress.steps_done)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count the micro-batch, and keep the step's loss."""
        finish_restart(trainer)
        self._means.add_restored(trainer)
        progress = self.progress
        loss = _loss_of(outputs)
        if loss is not None:
            self._losses.append(loss)
        progress.micro_batches_done += 1
        if progress.micro_batches_done < progress.plan.accumulate:
            return
        progress.micro_batches_done = 0
        # Lightning divides each loss by the number of accumulated batches, so the sum is their mean.
        if self._losses:
            values = {"loss": torch.stack(self._losses).sum()}
        else:  # a GAN may train and log one of its parts in some steps only
            values = self._last = {**self._last, **self._logged(trainer)}
        self._losses = []
        if not progress.window.names:
            progress.window.start(tuple(values))
        step, progress.steps_done = progress.steps_done, progress.steps_done + 1
        progress.evaluations += 1
        if missing := [name for name in progress.window.names if name not in values]:
            raise UserError(
                f"training_step of {type(pl_module).__name__} returned or logged {missing[0]} at its first "
                f"step, but not at step {step}; return the loss at every step"
            )
        progress.window.add(step, *(values[name].view(1) for name in progress.window.names))
        if progress.steps_done % progress.window.every_n_steps == 0:
            progress.logged[progress.steps_done] = {
                name: float(value) for name, value in self._logged(trainer).items() if name not in values
            }

    def keep_epoch_metrics(self, trainer: pl.Trainer) -> None:
        """Keep the metrics that Lightning averaged over the epoch."""
        found = self._logged(trainer, on_step=False).items()
        self.progress.epoch_metrics = {
            name: float(value) for name, value in found if name not in self.progress.window.names
        }

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed the generators, average running statistics over ranks, and remember what was logged."""
        average_buffers(pl_module)
        self._seed(pl_module, EVALUATION_START, self.progress.steps_done)
        self._kept, self._before = self._before, dict(trainer.callback_metrics)

    on_test_start = on_validation_start

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the metrics that the evaluation logged; with several ranks, those of rank 0."""
        raw = {name: float(value) for name, value in self._new(trainer).items()}
        if trainer.world_size > 1:
            # A metric that is logged without sync_dist differs between ranks, which must decide alike.
            texts = all_gather_bytes(json.dumps(raw).encode(), trainer.strategy.root_device)
            _warn_of_differences([json.loads(text) for text in texts])
            raw = json.loads(texts[0])
        self.progress.logged_as = _unsplit_names(_without_forks(raw))
        self.progress.evaluated = {name: raw[key] for name, key in self.progress.logged_as.items()}
        self._before = self._kept

    on_test_end = on_validation_end

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the running statistics of each rank, what was logged, and the means of the running epoch."""
        save_buffers(pl_module, checkpoint)
        checkpoint["logged"] = {name: float(value) for name, value in trainer.callback_metrics.items()}
        checkpoint["logged_in_epoch"] = sorted(self._new_in_training(trainer))
        checkpoint["last_values"] = {name: float(value) for name, value in self._last.items()}
        if not ends_an_epoch(checkpoint):
            checkpoint["epoch_means_of_ranks"] = self._means.state_of_ranks(trainer, pl_module)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore this rank's running statistics: the module has loaded those of rank 0 by now."""
        load_buffers(pl_module, checkpoint)
        self._means.restore(checkpoint.get("epoch_means_of_ranks", []), pl_module)
        self._resumed = checkpoint
        buffers = dict(pl_module.named_buffers())
        with torch.no_grad():
            for name in checkpoint.get("buffers_of_ranks", {}):
                buffers[name].copy_(checkpoint["state_dict"][name])

    def _restore_logged(self, trainer: pl.Trainer, checkpoint: dict[str, Any]) -> None:
        """Restore what was logged: schedulers that react to a metric, and rows, may need the last value."""
        logged = {
            name: torch.tensor(value, dtype=torch.float64) for name, value in checkpoint["logged"].items()
        }
        trainer.callback_metrics.update(logged)
        self._restored = set(checkpoint["logged_in_epoch"])
        self._before = {name: value for name, value in logged.items() if name not in self._restored}
        device = trainer.strategy.root_device
        self._last = {
            name: torch.tensor(value, device=device) for name, value in checkpoint["last_values"].items()
        }

    def _update_missed_schedulers(
        self, trainer: pl.Trainer, module: pl.LightningModule, at_epoch_end: bool
    ) -> None:
        """Update the schedulers that react to a metric as after the hooks in which the state was saved.

        Lightning updates them after these hooks, and not again after a resume.
        """
        interval = "epoch" if at_epoch_end else "step"
        done = trainer.current_epoch if at_epoch_end else chunks_begun_in_epoch(trainer)
        for config in trainer.lr_scheduler_configs if module.automatic_optimization else ():
            is_due = config.interval == interval and done % config.frequency == 0
            value = trainer.callback_metrics.get(str(config.monitor))
            if config.reduce_on_plateau and is_due and value is not None:
                module.lr_scheduler_step(config.scheduler, value)

    def _seed(self, module: pl.LightningModule, stream: int, number: int) -> None:
        plan = self.progress.plan
        seed = mixed_seed(plan.seed, plan.rank, stream, number)
        seed_global_generators(seed)
        if module.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _new(self, trainer: pl.Trainer) -> dict[str, Tensor]:
        """Return what was logged since `_before`, by Lightning's names; each value is a new tensor."""
        logged = trainer.callback_metrics
        return {name: value for name, value in logged.items() if self._before.get(name) is not value}

    def _new_in_training(self, trainer: pl.Trainer, *, on_step: bool = True) -> dict[str, Tensor]:
        names = logged_in_training(trainer, on_step=on_step) | (self._restored if on_step else set())
        return {name: value for name, value in self._new(trainer).items() if name in names}

    def _logged(self, trainer: pl.Trainer, *, on_step: bool = True) -> dict[str, Tensor]:
        """Return what training logged, by names without the split."""
        found = self._new_in_training(trainer, on_step=on_step)
        names = _unsplit_names(_without_forks(found))
        return {name: found[key] for name, key in names.items()}


class EpochMetrics(LateCallback):
    """Keeps what was logged in an epoch, also in the module's own hook at its end."""

    def __init__(self, steps: StepByStep) -> None:
        self.steps = steps

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Read the metrics of the epoch."""
        self.steps.keep_epoch_metrics(trainer)


def _warn_of_differences(of_ranks: list[dict[str, float]]) -> None:
    """Say which metrics differ between the ranks; Lightning averages them only if the module asks for it."""
    first = of_ranks[0]
    names = [name for name, value in first.items() if any(of.get(name) != value for of in of_ranks[1:])]
    if names:
        log.warning(
            "%s: the processes have different values, and that of the first one counts; log it with "
            "self.log(..., sync_dist=True)",
            ", ".join(names),
        )


def _loss_of(outputs: Any) -> Tensor | None:
    """Return the loss that `training_step` returned, if it returned one."""
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    return loss.detach().float() if isinstance(loss, Tensor) and loss.numel() == 1 else None


def _unsplit_names(logged: Iterable[str]) -> dict[str, str]:
    """Return `{"mse": "val/mse"}`: each name without its split -> the name under which it was logged.

    If two names differ only by the split, the second keeps its own.
    """
    names: dict[str, str] = {}
    for key in logged:
        name = _SPLIT_SUFFIX.sub("", _SPLIT_PREFIX.sub("", key))
        names[key if name in names else name] = key
    return names


def _without_forks(logged: Collection[str]) -> list[str]:
    """Return the names without those that Lightning adds to a value logged per step and per epoch."""
    return [name for name in logged if not _FORKED.search(name) or _FORKED.sub("", name) not in logged]
