"""Callbacks and flags of Lightning's Trainer by the configuration: what they see, and what is refused."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tempo.config.trainer_flags import PASSED, REFUSED
from tempo.errors import UserError
from tests.conftest import Train, Trained
from tests.jobs import checked_job

HERE = "tests.run.test_own_callbacks"
STEPS = ("trainer.max_steps=40", "scheduler=onecycle", "optimizer.lr=0.01")
PL = "pytorch_lightning.callbacks"


class CountSteps(pl.Callback):
    """Counts calls, keeps the count in the checkpoint, and notes the learning rate of each step."""

    def __init__(self, state: Any = None) -> None:
        self.count, self.state = 0, state

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self.count += 1

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "state": object() if self.state == "object" else self.state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.count = state_dict["count"]


class FewEpochs(pl.callbacks.EarlyStopping):
    """A subclass is refused as its base."""


class Regression(pl.LightningModule):
    """A module that brings a callback."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.layer = torch.nn.Linear(64, 10)

    def configure_callbacks(self) -> list[pl.Callback]:
        return [FewEpochs("val/loss")] if self.kind == "early" else [CountSteps()]

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(self.layer(batch[0].flatten(1)), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", self.training_step(batch, batch_idx))


def points(trained: Trained, tag: str) -> list[float]:
    events = EventAccumulator(str(trained.folder / "tensorboard"))
    events.Reload()
    return [point.value for point in events.Scalars(tag)]


def test_a_callback_sees_every_step_and_changes_no_weight(train: Train) -> None:
    plain = train(*STEPS, "trainer.log_every_n_steps=1", folder="plain")
    watched = train(*STEPS, "callbacks=learning_rate_monitor", f"+callbacks.count._target_={HERE}.CountSteps")
    rates = points(watched, "lr-SGD")
    assert len(rates) == 40
    assert rates == pytest.approx([row["lr"] for row in plain.rows() if "lr" in row]), "that of its own step"
    assert watched.checkpoint()["callbacks"]["CountSteps"]["count"] == 40
    assert watched.record.weights_sha256 == plain.record.weights_sha256
    assert watched.record.config_hash != plain.record.config_hash


def test_a_list_of_callbacks_and_one_alone(train: Train) -> None:
    node = {"_target_": f"{HERE}.CountSteps"}
    for callbacks in (node, [node], {"a": node, "b": None}):
        from tempo.config.callback_targets import callback_nodes

        assert list(callback_nodes(callbacks).values()) == [node]


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ([f"+callbacks.a._target_={PL}.ModelCheckpoint"], "set checkpoint.keep_best=1"),
        ([f"+callbacks.a._target_={PL}.EarlyStopping"], "set early_stopping.patience=10"),
        ([f"+callbacks.a._target_={PL}.StochasticWeightAveraging"], "set ema.decay=0.999"),
        ([f"+callbacks.a._target_={PL}.EMAWeightAveraging"], "set ema.decay=0.999"),
        ([f"+callbacks.a._target_={PL}.GradientAccumulationScheduler"], "set trainer.accumulate=2"),
        ([f"+callbacks.a._target_={PL}.RichProgressBar"], "prints its progress itself; leave it out"),
        ([f"+callbacks.a._target_={PL}.LearningRateMonitors"], "Did you mean 'LearningRateMonitor'?"),
        (["+callbacks.a._target_=pytorch_lightning.nowhere.Callback"], "cannot be found"),
        (["+callbacks.a._target_=nowhere.Callback"], "cannot be found: No module named 'nowhere'"),
        (["+callbacks.a.patience=3"], "callbacks.a={'patience': 3} has no _target_"),
        (["+callbacks.early_stopping.patience=3"], "set early_stopping.patience=3"),
        (["+trainer.flags.max_epochs=3"], "set trainer.epochs=3"),
        (["+trainer.flags.accumulate_grad_batches=2"], "set trainer.accumulate=2"),
        (["+trainer.flags.precision=16"], "set trainer.precision=16"),
        (["+trainer.flags.max_tim=1"], "Did you mean 'max_time'?"),
        (["+trainer.flags.sync_batchnorm=true", "trainer=cpu"], "needs GPUs"),
    ],
)
def test_what_would_break_a_promise_is_one_line_before_torch(overrides: list[str], line: str) -> None:
    with pytest.raises(UserError) as caught:
        checked_job(["model=mlp", *overrides])
    assert line in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ([f"+callbacks.a={{_target_: {HERE}.FewEpochs, monitor: val/loss}}"], "EarlyStopping cannot be used"),
        ([f"+callbacks.a._target_={HERE}.points"], "callbacks: "),
        (["+callbacks.a._target_=torch.nn.ReLU"], "builds a ReLU, not a pytorch_lightning.Callback"),
        ([f"+callbacks.a={{_target_: {HERE}.CountSteps, state: object}}"], "CountSteps saves a object"),
        (["+trainer.flags.max_time=tomorrow"], "trainer.flags: Lightning refuses it"),
        (
            [f"model._target_={HERE}.Regression", "~model.hidden", "+model.kind=early"],
            "configure_callbacks of Regression: EarlyStopping cannot be used",
        ),
    ],
)
def test_what_is_seen_when_it_is_built_is_one_line(overrides: list[str], line: str, train: Train) -> None:
    with pytest.raises(UserError) as caught:
        train("trainer.max_steps=2", *overrides)
    assert line in str(caught.value)


def test_flags_reach_the_trainer(train: Train) -> None:
    """A run that would take minutes ends after a second, validated, saved and tested."""
    record = train(
        "trainer.epochs=100000", "trainer.val_every_n_epochs=100", "+trainer.flags.max_time=00:00:00:01"
    ).record
    assert record.status == "completed"
    assert 0 < record.steps < 100000
    assert record.metrics.keys() >= {"val", "test"}


def test_every_argument_of_the_trainer_is_passed_or_refused() -> None:
    assert {*PASSED, *REFUSED} == inspect.signature(pl.Trainer).parameters.keys()
    for name in REFUSED:
        with pytest.raises(UserError, match=r"; (set|leave|use)"):
            checked_job(["model=mlp", f"+trainer.flags.{name}=1"])
