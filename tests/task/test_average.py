"""Schedule-free: the average is evaluated, saved and tested; the weights that train keep their bits."""

from __future__ import annotations

import pytest
import schedulefree
import torch
from torch.nn import functional as F

from tempo.data.augment import Preprocess, channel_statistics
from tempo.data.batches import BatchPlan
from tempo.data.digits import digits
from tempo.data.split import split
from tempo.errors import UserError
from tempo.model.mlp import MLP
from tempo.run.evaluate import evaluate
from tests.conftest import Train

STEPS = 23
JOB = ("optimizer=schedule_free", f"trainer.max_steps={STEPS}", "checkpoint.select=last")


def test_the_average_is_tested(train: Train) -> None:
    official, test = digits()
    images, _ = split(official, val_size=0.1, train_size=320, split_seed=0)
    preprocess = Preprocess(None, *channel_statistics(images.images), False)
    plan = BatchPlan(n=320, total_batch_size=64, seed=0)
    torch.manual_seed(0)
    network = MLP(input_shape=(1, 8, 8), num_classes=10, hidden=(128, 64, 32))
    optimizer = schedulefree.AdamWScheduleFree(network.parameters(), lr=2.5e-3)
    optimizer.train()
    for step in range(STEPS):
        index = torch.tensor(plan.positions(step))
        optimizer.zero_grad()
        F.cross_entropy(network(preprocess(images.images[index], None)), images.labels[index]).backward()
        optimizer.step()
    trained = train(*JOB)
    state = trained.checkpoint("last")["state_dict"]
    for name, tensor in network.state_dict().items():
        assert torch.equal(state[f"network.{name}"], tensor), name
    optimizer.eval()
    for name, tensor in network.state_dict().items():
        assert torch.equal(state[f"averaged.module.{name}"], tensor), name
        assert not torch.equal(state[f"network.{name}"], tensor)
    with torch.no_grad():
        logits = network(preprocess(test.images, None))
    assert trained.record.metrics["test"]["loss"] == pytest.approx(
        float(F.cross_entropy(logits, test.labels))
    )
    again = evaluate(trained.folder, accelerator="cpu")
    assert (again.metrics["loss"], again.against_record) == (
        trained.record.metrics["test"]["loss"],
        "the record's numbers",
    )


def test_looking_more_often_changes_nothing(train: Train) -> None:
    plain = train(*JOB, folder="plain")
    often = train(*JOB, "trainer.test_every_n_epochs=1", "checkpoint.every_n_steps=2", folder="often")
    assert often.record.weights_sha256 == plain.record.weights_sha256


def test_batch_normalization_is_refused(train: Train) -> None:
    with pytest.raises(UserError, match="running statistics of other weights; use model=mlp"):
        train(*JOB, "model=resnet20")
