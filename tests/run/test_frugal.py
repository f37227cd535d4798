"""A stem in front of a finished run: trained, tested again and resumed like any other network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tempo.errors import UserError
from tempo.run.build_network import network_of_run
from tempo.run.evaluate import evaluate
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
    assert sum(state["momentum_buffer"].numel() for state in moments.values()) == 528
    again = evaluate(above.folder, accelerator="cpu")
    assert again.weights_sha256 == above.record.weights_sha256
    assert again.metrics["accuracy"] == above.record.metrics["test"]["accuracy"]
    begun = train(*stem, f"init_from={above.folder}", "trainer.max_steps=1", folder="begun")
    assert begun.record.init_from["weights_sha256"] == above.record.weights_sha256
    other = train(*IMAGES, "data.image_size=8", "seed=1", folder="other")
    with pytest.raises(UserError, match="the stem was trained in front of the network of"):
        train(*stem, f"model.run={other.folder}", f"init_from={above.folder}", folder="wrong")


def test_stem_needs_a_network_for_images_of_half_the_size(train: Train) -> None:
    below = train(*IMAGES, "data.image_size=8", folder="below")
    with pytest.raises(UserError, match=r"it must have been \[3, 16, 16\]"):
        train(*IMAGES, "data.image_size=32", "model=frugal", f"model.run={below.folder}", folder="above")
    with pytest.raises(UserError, match=r"has no run\.json"):
        train(*IMAGES, "model=frugal", f"model.run={below.folder}/nowhere", folder="lost")


def test_a_strangers_run_behind_a_stem_is_refused_in_one_line(train: Train, tmp_path: Path) -> None:
    below = train("data=synthetic", "data.image_size=8", "trainer.max_steps=1", folder="below")

    def refused(words: str, change: Callable[[dict[str, Any]], Any], side: int = 16) -> None:
        folder = tmp_path / "changed"
        shutil.copytree(below.folder, folder)
        values = json.loads((folder / "run.json").read_text())
        change(values)
        (folder / "run.json").write_text(json.dumps(values))
        with pytest.raises(UserError, match=words):
            network_of_run(folder, (3, side, side), 10)
        shutil.rmtree(folder)

    def itself(values: dict[str, Any]) -> None:
        values["config"]["model"] = {
            "_target_": "tempo.model.frugal.FrugalStem",
            "run": str(tmp_path / "changed"),
        }
        values["data"]["shape"] = [3, 1, 1]

    refused("use larger images", itself, side=2)
    refused("of None classes", lambda values: values["data"].pop("classes"))
    refused(r"trained on images \[\] of", lambda values: values["data"].update(shape=[]))
    for part in ("model", "checkpoint"):
        refused(f"{part}=None must be a group", lambda values, part=part: values["config"].pop(part))
    refused("model has no _target_", lambda values: values["config"]["model"].pop("_target_"))
    refused("seed='x' is not a whole number", lambda values: values["config"].update(seed="x"))
