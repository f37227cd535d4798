"""Steps that compute the loss several times, against torch's optimizer in a plain loop."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from tempo.data.augment import Preprocess, channel_statistics
from tempo.data.batches import BatchPlan
from tempo.data.digits import digits
from tempo.data.split import split
from tempo.model.mlp import MLP
from tempo.task.optimizer_closure import StepClosure
from tests.conftest import Train

STEPS = 7
JOB = ("optimizer=lbfgs", "optimizer.max_iter=4", f"trainer.max_steps={STEPS}")


def plain_loop() -> tuple[torch.nn.Module, list[float], int]:
    """Network, loss before each step, and how often the loss was computed."""
    official, _ = digits()
    train, _ = split(official, val_size=0.1, train_size=320, split_seed=0)
    preprocess = Preprocess(None, *channel_statistics(train.images), False)
    plan = BatchPlan(n=320, total_batch_size=64, seed=0)
    torch.manual_seed(0)
    network = MLP(input_shape=(1, 8, 8), num_classes=10, hidden=(128, 64, 32))
    optimizer = torch.optim.LBFGS(
        network.parameters(), max_iter=4, history_size=10, line_search_fn="strong_wolfe"
    )
    losses, calls = [], 0
    for step in range(STEPS):
        index = torch.tensor(plan.positions(step))
        x, y = preprocess(train.images[index], None), train.labels[index]

        def closure(x: torch.Tensor = x, y: torch.Tensor = y) -> torch.Tensor:
            nonlocal calls
            calls += 1
            optimizer.zero_grad()
            loss = F.cross_entropy(network(x), y)
            loss.backward()
            return loss.detach()

        losses.append(float(optimizer.step(closure)))
    return network, losses, calls


def test_equals_a_plain_loop_to_the_bit(train: Train) -> None:
    network, losses, calls = plain_loop()
    trained = train(*JOB, "trainer.log_every_n_steps=1")
    state = trained.checkpoint("last")["state_dict"]
    for name, tensor in network.state_dict().items():
        assert torch.equal(state[f"network.{name}"], tensor), name
    rows = [row["train/loss"] for row in trained.rows() if "train/loss" in row]
    assert rows == pytest.approx(losses, rel=1e-6)
    assert (trained.record.steps, trained.record.evaluations) == (STEPS, calls)


def test_every_look_at_an_image_counts(train: Train) -> None:
    record = train(*JOB).record
    assert record.evaluations > 3 * STEPS
    images = record.images_per_second * record.seconds["train"]
    assert images == pytest.approx(64 * record.evaluations, rel=1e-6)
    assert train("trainer.max_steps=9", folder="momentum").record.evaluations == 9


def test_the_gradient_of_a_large_batch_is_a_mean_over_micro_batches(train: Train) -> None:
    job = [*JOB, "data.total_batch_size=320", "trainer.precision=64-true"]
    whole, parts = train(*job, folder="whole"), train(*job, "trainer.accumulate=5", folder="parts")
    state = parts.checkpoint("last")["state_dict"]
    for name, tensor in whole.checkpoint("last")["state_dict"].items():
        torch.testing.assert_close(state[name], tensor, rtol=1e-6, atol=1e-8, msg=name)
    assert parts.record.evaluations == whole.record.evaluations


def test_dropout_is_the_same_at_each_evaluation(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line search on a function that changes from call to call finds nothing."""
    seen: list[tuple[list[torch.Tensor], float]] = []
    call: Callable[[StepClosure], torch.Tensor] = StepClosure.__call__

    def watched(self: StepClosure) -> torch.Tensor:
        loss = call(self)
        weights = [p.detach().clone() for group in self.optimizer.param_groups for p in group["params"]]
        again = call(self)
        for parameter, before in zip(
            (p for group in self.optimizer.param_groups for p in group["params"]), weights, strict=True
        ):
            assert torch.equal(parameter, before)
        seen.append((weights, float(loss)))
        assert torch.equal(loss, again)
        return again

    monkeypatch.setattr(StepClosure, "__call__", watched)
    train(*JOB, "model=cnn3", "model.dropout=0.5")
    assert len(seen) > STEPS
    assert len({loss for _, loss in seen}) > STEPS
