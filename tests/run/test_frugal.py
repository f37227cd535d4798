"""A stem in front of a finished run: trained, tested again and resumed like any other network."""

from __future__ import annotations

from pathlib import Path

import pytest

from tempo.errors import UserError
from tempo.evaluate import evaluate
from tests.conftest import Train

IMAGES = (
    "data=synthetic",
    "data.train_images=400",
    "data.test_images=40",
    "model=resnet20",
    "trainer.epochs=1",
)


def test_stem_trains_in_front_of_a_run(train: Train, tmp_path: Path) -> None:
    below = train(*IMAGES, "data.image_size=8", folder="below")
    stem = (*IMAGES, "data.image_size=16", "model=frugal", f"model.run={below.folder}")
    above = train(*stem, folder="above")
    assert above.record.parameters == {"trainable": 528, "total": 528 + below.record.parameters["total"]}
    state = above.checkpoint()["state_dict"]
    names = {name for name in state if name.startswith("network.")}
    assert names == {f"network.stem.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")} | {
        "network._extra_state"
    }
    assert state["network._extra_state"] == {
        "run": str(below.folder),
        "weights_sha256": below.record.weights_sha256,
    }
    moments = above.checkpoint()["optimizer_states"][0]["state"]
    assert sum(each["momentum_buffer"].numel() for each in moments.values()) == 528
    again = evaluate(above.folder, accelerator="cpu")
    assert again.weights_sha256 == above.record.weights_sha256
    assert again.accuracy == above.record.metrics["test"]["accuracy"]


def test_stem_needs_a_network_for_images_of_half_the_size(train: Train) -> None:
    below = train(*IMAGES, "data.image_size=8", folder="below")
    with pytest.raises(UserError, match=r"it must have been \[3, 16, 16\]"):
        train(*IMAGES, "data.image_size=32", "model=frugal", f"model.run={below.folder}", folder="above")
    with pytest.raises(UserError, match=r"holds no run\.json"):
        train(*IMAGES, "model=frugal", f"model.run={below.folder}/nowhere", folder="lost")
