"""The smallest checkpoint that a run can go on from."""

from __future__ import annotations

from typing import Any

import torch


def saved(step: int, *, best: int = 1, config_hash: str = "abc") -> dict[str, Any]:
    """After `step` steps, the best of which was `best`."""
    recorder: dict[str, Any] = {
        "train_seconds": 1.5,
        "compile_seconds": 0.0,
        "evaluations_compiling": 0,
        "validated_step": step,
        "divergence": {"smoothed": None, "best": 2.0},
        "metrics": {"val": {"loss": 0.7, "accuracy": 0.5}},
    }
    found = {"best": [[0.5, best]], "best_metrics": {"loss": 0.7, "accuracy": 0.5}, "saved_step": step}
    return {
        "state_dict": {"w": torch.arange(1000.0)},
        "global_step": step,
        "epoch": 0,
        "evaluations": step,
        "config_hash": config_hash,
        "optimizer_states": [],
        "window": {"loss": [], "accuracy": []},
        "callbacks": {"Recorder": recorder, "Checkpoints": found},
        "loops": {},
    }
