"""The training step against a plain loop: the same weights to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tempo.data.augment import Augment
from tempo.model.cnn3 import CNN3
from tempo.model.mlp import MLP
from tests.conftest import Train, Trained
from tests.trainer.reference import OPTIMIZERS, Loop, constant, cosine, onecycle

STEPS = 23  # the fifth epoch of 5 steps is cut short after 3


def mlp() -> nn.Module:
    return MLP(input_shape=(1, 8, 8), num_classes=10, hidden=(128, 64, 32))


def cnn3() -> nn.Module:
    return CNN3(input_shape=(1, 8, 8), num_classes=10, widths=(32, 64, 128), dropout=0.0)


# overrides of the command line, and the same in the loop's words
CASES: dict[str, tuple[list[str], dict[str, Any]]] = {
    **{option: ([f"optimizer={option}"], {"make_optimizer": make}) for option, make in OPTIMIZERS.items()},
    "onecycle": (["scheduler=onecycle", "optimizer.lr=0.01"], {"schedule": onecycle(0.01)}),
    "onecycle-adam": (
        ["scheduler=onecycle", "optimizer=adam"],
        {"schedule": onecycle(1e-3), "make_optimizer": OPTIMIZERS["adam"]},
    ),
    "cosine": (["scheduler=cosine"], {"schedule": cosine(0.1)}),
    "accumulation": (["trainer.accumulate=4"], {"accumulate": 4}),
    "clipping": (["trainer.gradient_clip=0.1"], {"gradient_clip": 0.1}),
    "clipping-accumulation": (
        ["trainer.gradient_clip=0.1", "trainer.accumulate=2"],
        {"gradient_clip": 0.1, "accumulate": 2},
    ),
    "ema": (["ema.decay=0.9"], {"ema_decay": 0.9}),
    "ema without warm-up": (["ema.decay=0.9", "ema.warmup=false"], {"ema_decay": 0.9, "ema_warmup": False}),
    "seed": (["seed=7"], {"seed": 7}),
    "batch": (["data.total_batch_size=32"], {"total_batch_size": 32}),
    "augmentation": (
        [
            "model=cnn3",
            "model.dropout=0",
            "trainer.channels_last=false",
            "data.augment={crop_padding: 1, flip: true, cutout: 3}",
        ],
        {"make_network": cnn3, "augment": Augment(crop_padding=1, flip=True, cutout=3)},
    ),
}


def weights(trained: Trained) -> dict[str, torch.Tensor]:
    return trained.checkpoint("last")["state_dict"]


def assert_equal_to_the_bit(found: dict[str, torch.Tensor], expected: nn.Module, prefix: str) -> None:
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(found[prefix + name], tensor, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("case", CASES)
def test_equals_a_plain_loop(case: str, train: Train) -> None:
    overrides, words = CASES[case]
    if "schedule" not in words:
        make = words.get("make_optimizer", OPTIMIZERS["momentum"])
        words = {**words, "schedule": constant(make([torch.zeros(1)]).defaults["lr"])}
    loop = Loop(**{"make_network": mlp, "make_optimizer": OPTIMIZERS["momentum"], "steps": STEPS} | words)
    trained = train(f"trainer.max_steps={STEPS}", "trainer.log_every_n_steps=1", *overrides)
    expected = loop.run()

    found = weights(trained)
    if case in (
        "cosine",
        "onecycle",
        "onecycle-adam",
    ):  # another formula of the curve: its last bit may differ
        for name, tensor in expected.network.state_dict().items():
            torch.testing.assert_close(found[f"network.{name}"], tensor, rtol=1e-4, atol=1e-6)
    else:
        assert_equal_to_the_bit(found, expected.network, "network.")
    if expected.averaged is not None:
        assert_equal_to_the_bit(found, expected.averaged, "averaged.module.")
    rows = [row for row in trained.rows() if "train/loss" in row]
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    np.testing.assert_allclose([row["train/loss"] for row in rows], expected.losses, rtol=1e-4)
    np.testing.assert_allclose([row["train/accuracy"] for row in rows], expected.accuracies, rtol=1e-6)
    assert trained.record.steps == STEPS


def test_the_loop_would_notice(train: Train) -> None:
    """Another order of the images, and nothing is equal any more."""
    loop = Loop(mlp, OPTIMIZERS["momentum"], constant(0.1), STEPS, seed=1)
    trained = weights(train(f"trainer.max_steps={STEPS}"))
    name, tensor = next(iter(loop.run().network.state_dict().items()))
    assert not torch.equal(trained[f"network.{name}"], tensor)


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=mlp"],
        ["model=cnn3", "data.augment.crop_padding=1"],
        ["scheduler=onecycle", "ema.decay=0.9", "trainer.accumulate=2"],
    ],
    ids=["mlp", "cnn3 with dropout", "onecycle, average, accumulation"],
)
def test_steps_per_call_change_nothing(overrides: list[str], train: Train) -> None:
    runs = [
        train(f"trainer.max_steps={STEPS}", f"trainer.steps_per_call={steps}", *overrides, folder=str(steps))
        for steps in (1, 7, "auto")
    ]
    assert len({trained.record.weights_sha256 for trained in runs}) == 1
    curves = [sorted(trained.curves(), key=lambda row: (row["step"], "val/loss" in row)) for trained in runs]
    assert curves[0] == curves[1] == curves[2]
    assert runs[0].record.metrics == runs[1].record.metrics == runs[2].record.metrics
