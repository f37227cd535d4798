"""A new run that begins with the weights of another one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from tempo.errors import UserError
from tempo.record.run_json import RunRecord
from tests.conftest import Train

# One step that changes next to nothing: what is tested is what the run began with.
STILL = ["trainer.max_steps=1", "optimizer.lr=1e-12", "optimizer.wd=0"]


@pytest.mark.parametrize("more", [[], ["ema.decay=0.5"]], ids=["trained", "averaged"])
def test_it_begins_where_the_test_of_the_other_stood(more: list[str], train: Train) -> None:
    other = train("trainer.epochs=3", *more, folder="other")
    begun = train(*STILL, f"init_from={other.folder}", folder="begun")
    best = (other.folder / "checkpoints" / "best.ckpt").read_bytes()
    assert begun.record.init_from == {
        "path": str(other.folder),
        "file_sha256": hashlib.sha256(best).hexdigest(),
        "weights_sha256": other.record.weights_sha256,
    }
    found, expected = (trained.record.metrics["test"] for trained in (begun, other))
    assert found["accuracy"] == expected["accuracy"]
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    fresh = train(*STILL, folder="fresh")
    assert fresh.record.metrics["test"]["accuracy"] < 0.5 < expected["accuracy"]
    assert fresh.record.config_hash != begun.record.config_hash
    assert fresh.record.init_from == {}


def test_a_checkpoint_may_be_named_and_the_start_outlives_it(train: Train) -> None:
    other = train("trainer.epochs=2", folder="other")
    path = other.folder / "checkpoints" / "last.ckpt"
    overrides = ["trainer.epochs=2", f"init_from={path}"]
    begun = train(*overrides, folder="begun")
    first = torch.load(path, weights_only=True)["state_dict"]
    assert begun.record.init_from["path"] == str(path)
    record = RunRecord.read(begun.folder)
    record.status = "interrupted"
    record.write(begun.folder)
    path.unlink()
    resumed = train(*overrides, f"resume={begun.folder}", folder="begun")
    assert resumed.record.init_from == begun.record.init_from
    assert resumed.record.weights_sha256 == begun.record.weights_sha256
    last = resumed.checkpoint("last")["state_dict"]
    assert any(not torch.equal(first[name], last[name]) for name in first)


def test_weights_of_another_network_are_refused(train: Train, tmp_path: Path) -> None:
    other = train("trainer.max_steps=1", folder="other")
    narrow = r"hidden\.4\.bias is of shape \(32,\) there and of shape \(31,\) in"
    for change, words in (("model.hidden=[128, 64, 31]", narrow), ("model=cnn3", "absent")):
        with pytest.raises(UserError, match=words):
            train("trainer.max_steps=1", change, f"init_from={other.folder}", folder="refused")
    with pytest.raises(UserError, match=r"has no run\.json"):
        train("trainer.max_steps=1", f"init_from={tmp_path / 'nowhere'}", folder="nowhere")
