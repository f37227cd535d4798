"""trainer=fsdp2 is the one training path: DDP's numbers, its files, and exact resuming."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from tempo.record.run_json import RunRecord
from tempo.run.evaluate import evaluate
from tests.conftest import Train, Trained
from tests.jobs import SMALL, start_group
from tests.run.test_several_processes import assert_near

# Batch normalization, moving average, clipping, accumulation; two epochs and a step.
JOB = ["model=resnet20", "model.depth=8", "optimizer=adamw", "ema.decay=0.9", "trainer.gradient_clip=0.5"]
JOB += ["trainer.accumulate=2", "trainer.max_steps=11", "trainer.precision=64-true"]
JOB += ["data.augment={crop_padding: 1, flip: true, cutout: 2}"]
SPLIT = [*JOB, "trainer.shard=true"]


def run_group(folder: Path, overrides: list[str]) -> Trained:
    assert start_group(folder, [*SMALL, *overrides], 2).finish() == [0, 0]
    return Trained(folder, RunRecord.read(folder))


def test_a_split_network_trains_as_ddp_and_resumes_to_the_bit(train: Train, tmp_path: Path) -> None:
    whole = run_group(tmp_path / "ddp", JOB)
    split = run_group(tmp_path / "fsdp2", SPLIT)
    assert (split.record.status, split.record.world_size) == ("completed", 2)
    assert_near(split, whole)
    state = split.checkpoint()["optimizer_states"][0]["state"]
    for number, values in whole.checkpoint()["optimizer_states"][0]["state"].items():
        for name, value in values.items():
            torch.testing.assert_close(state[number][name], value, rtol=1e-9, atol=1e-11)

    found = evaluate(split.folder, accelerator="cpu")  # in one process
    assert found.weights_sha256 == split.record.weights_sha256
    assert found.metrics["accuracy"] == split.record.metrics["test"]["accuracy"]
    begun = train("model=resnet20", "model.depth=8", f"init_from={split.folder}", "trainer.max_steps=1")
    assert begun.record.init_from["path"] == str(split.folder)

    # As if it had been killed after its second epoch.
    cut = Path(shutil.copytree(split.folder, tmp_path / "cut"))
    (cut / "checkpoints" / "previous.ckpt").replace(cut / "checkpoints" / "last.ckpt")
    record = json.loads((cut / "run.json").read_text(encoding="utf-8"))
    (cut / "run.json").write_text(json.dumps({**record, "status": "running"}), encoding="utf-8")
    resumed = run_group(cut, [*SPLIT, f"resume={cut}"])
    assert resumed.record.weights_sha256 == split.record.weights_sha256
    assert resumed.curves() == split.curves()
    assert len(resumed.record.sessions) == 2
