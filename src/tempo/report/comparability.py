"""Whether a run has the setting of a published number; without it, no difference means anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from tempo.config.recorded_config import experiment_config
from tempo.config.schema import GROUPS
from tempo.record.run_json import flatten
from tempo.report.grouping import NOT_A_SETTING
from tempo.report.load_runs import Run
from tempo.report.number_format import canonical, human

OFFICIAL_SHA256 = {
    "tempo.data.mnist.mnist": "d00778f855f4d5c0f2f9598a9280f4e6a78c7f35e8407c8f35cee60971eb0c83",
}
"""`data.sha256` of the official images, for a reader that also takes files without a published checksum.

The readers of CIFAR-10 and CIFAR-100 take no file whose published MD5 is not right, so their name is enough.
"""
MOST_DIFFERENCES = 5
_NOT_OF_THE_SETTING = ("paper", "logger", "server", "hydra")
_MAY_DIFFER = NOT_A_SETTING | {
    "objective",
    *(f"data.{key}" for key in ("root", "download", "eval_batch_size", "split_seed", "train_images")),
    *(f"trainer.{key}" for key in ("accelerator", "devices", "num_nodes", "accumulate", "shard", "backend")),
    *(f"trainer.{key}" for key in ("precision", "matmul_precision", "channels_last", "deterministic")),
    *(
        f"trainer.{key}"
        for key in ("compile", "cuda_graph", "threads", "steps_per_call", "energy", "profiler")
    ),
    *(f"trainer.{key}" for key in ("val_every_n_epochs", "test_every_n_epochs", "log_every_n_steps")),
    *(f"checkpoint.{key}" for key in ("keep_best", "every_n_steps", "every_n_minutes")),
    "optimizer.fused",
    "divergence.factor",
}
"""Keys of places, devices, rounding and logging. All others are data, network, schedule, length, batch or
regularisation."""


def differences(run: Run, experiment: str, overrides: Sequence[str] = ()) -> list[str]:
    """Return the differences between a run and its row's experiment, such as `trainer.epochs=1 (row: 100)`.

    A key that the record does not have is newer than the record and counts as equal.
    """
    row = _composed(experiment, tuple(overrides))
    if row is None:
        return [f"experiment={experiment} can no longer be composed"]
    values, options = row
    theirs = flatten(values)
    found = [key for key in (*theirs, *run.flat) if _differs(key, run.flat, theirs)]
    lines = []
    for group in GROUPS:
        inside = [key for key in found if key.startswith(f"{group}.")]
        ours = run.record.choices.get(group) or str(run.flat.get(f"{group}._target_")).rpartition(".")[2]
        if inside and ours != options[group]:
            lines.append(f"{group}={ours} (row: {options[group]})")
            # The keys of another data set or network mean nothing to the row's.
            found = [key for key in found if key not in inside or (key in theirs and key in run.flat)]
            found = [key for key in found if key != f"{group}._target_"]
    lines += [f"{key}={_shown(run.flat, key)} (row: {_shown(theirs, key)})" for key in dict.fromkeys(found)]
    official = OFFICIAL_SHA256.get(str(theirs.get("data._target_")))
    if official is not None and run.record.data.get("sha256") != official:
        lines.append("the images are not the official ones (SHA-256)")
    return lines


def listed(lines: Sequence[str]) -> str:
    """Join differences to one phrase, the first few if there are many."""
    left = len(lines) - MOST_DIFFERENCES
    return ", ".join(lines[:MOST_DIFFERENCES]) + (f" and {left} more" if left > 0 else "")


@lru_cache(maxsize=256)
def _composed(experiment: str, overrides: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, str]] | None:
    return experiment_config(experiment, overrides)


def _differs(key: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    if key in _MAY_DIFFER or key.partition(".")[0] in _NOT_OF_THE_SETTING or key not in ours:
        return False
    return key not in theirs or canonical(ours[key]) != canonical(theirs[key])


def _shown(values: Mapping[str, Any], key: str) -> str:
    return human(values[key]) if key in values else "none"
