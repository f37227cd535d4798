"""What a run prints, on a terminal and elsewhere."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from tempo.config.schema import TrainerConfig
from tempo.record.run_json import RunRecord
from tempo.scheduler.constant import Constant
from tempo.trainer.console import batch_line, print_results, schedule_line


def record(**fields: object) -> RunRecord:
    made = RunRecord(config={}, config_hash="", overrides=[], seed=0, status="completed", name="mine")
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_losses_of_any_size_and_one_step(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    metrics = {
        "train": {"loss": 1.234e11},
        "val": {"loss": 0.51239, "accuracy": 0.5},
        "test": {"loss": 1234.5},
    }
    chosen = {"by": "val/accuracy", "value": 0.5, "step": 1}
    folder = Path("/logs/" + "a" * 90)
    diverged = {"status": "diverged", "reason": "diverged at step 1: loss 1e+11"}
    print_results(record(metrics=metrics, steps=1, selected=chosen, **diverged), folder)
    said = capsys.readouterr().out
    assert said.startswith("mine: diverged at step 1: loss 1e+11\n")  # the status is not said twice
    for words in (" 1.2e+11 ", " 0.5124 ", " 1234 ", "cost      1 step in", "chosen by val/accuracy 50.00 %"):
        assert words in said
    assert f"folder    {folder}\n" in said  # in one piece, to be pasted


def test_lines_of_a_header() -> None:
    assert schedule_line(Constant(lr=0.1), 1, 1) == "1 step = 1 epoch x 1 step, lr 0.1"
    assert schedule_line(Constant(lr=0.1), 300, 17).startswith("300 steps = 17.65 epochs x 17 steps")
    alone = record(config={"trainer": asdict(TrainerConfig())}, world_size=1, device="a CPU")
    alone.batch = {"total": 64, "per_device": 64, "accumulate": 1}
    assert batch_line(alone) == "TBS 64, on a CPU"
    alone.batch = {"total": 64, "per_device": 32, "accumulate": 2}
    assert batch_line(alone) == "TBS 64 = 32 per device x 1 device x 2 accumulation, on a CPU"
