"""How far a run is: its optimizer steps, the losses not yet written, and its last evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tempo.data.batches import BatchPlan
from tempo.scheduler.schedule import Schedule
from tempo.task.loss_window import StepWindow


def _nothing() -> None:
    """Prepare nothing: the default of `Progress.before_saving`."""


@dataclass(kw_only=True)
class Progress:
    """State of a fit that its callbacks read: recorder, checkpoints, early stopping, pruning.

    The trained module keeps it up to date: `Classifier` by itself, any other LightningModule through the
    callback `StepByStep`. Lightning's own count of steps is not used, because it adds up the steps of all
    optimizers: a GAN with two of them would have twice as many.

    Attributes:
        plan: items of each optimizer step.
        total_steps: optimizer steps of the whole run.
        schedule: curve of learning rate and momentum; None if the module has its own.
        window: losses of the last steps.
        steps_done: optimizer steps taken so far in the whole run.
        evaluations: passes over a batch so far: one per step, or more if the optimizer needs a closure.
        evaluated: metrics of the last validation or test, by their names without the split.
        items_evaluated: number of items in it.
        micro_batches_done: batches of the step that is being taken; 0 between two steps.
        logged: steps done -> what the step logged beside its loss, at the ends of intervals.
        epoch_metrics: what training logged as means over the epoch that has just ended.
        logged_as: names of `evaluated` -> the names under which the module logged them.
        is_exact: whether a run can be resumed within an epoch.
        before_saving: brings averaged weights up to date before they are evaluated or saved.
    """

    plan: BatchPlan
    total_steps: int
    schedule: Schedule | None
    window: StepWindow
    steps_done: int = 0
    evaluations: int = 0
    evaluated: dict[str, float] = field(default_factory=dict)
    items_evaluated: int = 0
    micro_batches_done: int = 0
    logged: dict[int, dict[str, float]] = field(default_factory=dict)
    epoch_metrics: dict[str, float] = field(default_factory=dict)
    logged_as: dict[str, str] = field(default_factory=dict)
    is_exact: bool = True
    before_saving: Callable[[], None] = _nothing

    @property
    def epochs_done(self) -> float:
        """Epochs trained so far, as a fraction."""
        return self.steps_done / self.plan.steps_per_epoch

    def scheduled(self, steps_done: int) -> dict[str, float]:
        """Return the scheduled values of the last of `steps_done` steps; empty without a schedule."""
        return {} if self.schedule is None else self.schedule.at(steps_done - 1, self.total_steps)

    def save_into(self, checkpoint: dict[str, Any]) -> None:
        """Write the count of steps and the unfinished interval into a checkpoint, as plain values."""
        checkpoint["steps_done"] = self.steps_done
        checkpoint["window"] = self.window.state_dict()
        checkpoint["evaluations"] = self.evaluations

    def load_from(self, checkpoint: dict[str, Any]) -> None:
        """Restore what `save_into` wrote; old checkpoints have only Lightning's count of steps."""
        self.steps_done = steps_in(checkpoint)
        self.window.load_state_dict(checkpoint["window"])
        self.evaluations = int(checkpoint["evaluations"])


def steps_in(checkpoint: dict[str, Any]) -> int:
    """Return the optimizer steps that a checkpoint was saved after."""
    return int(checkpoint.get("steps_done", checkpoint["global_step"]))
