"""Run folders with known numbers, written through RunRecord as a run writes them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tempo.record.run_json import RunRecord, config_hash
from tempo.report.load_runs import load
from tempo.report.sections import content_of
from tempo.report.write_report import text_of

HEADER = "step,epoch,seconds,lr,momentum,train/loss,train/accuracy,val/loss,val/accuracy"


def config(**changes: Any) -> dict[str, Any]:
    """A small configuration; `optimizer__wd=1e-4` sets a nested key."""
    made: dict[str, Any] = {
        "seed": 0,
        "name": "resnet20_digits",
        "objective": "val/accuracy",
        "data": {"_target_": "tempo.data.digits.digits", "total_batch_size": 128, "root": "/somewhere"},
        "model": {"_target_": "tempo.model.resnet.ResNet", "depth": 20},
        "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1, "wd": 1e-4, "momentum": 0.9},
        "scheduler": {"_target_": "tempo.scheduler.constant.Constant", "lr": 0.1},
        "trainer": {"epochs": 5, "devices": 1},
    }
    for key, value in changes.items():
        node = made
        *parents, leaf = key.split("__")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return made


def write_run(
    folder: Path,
    *,
    val: float = 0.9,
    test: float | None = None,
    seed: int = 0,
    status: str = "completed",
    overrides: Sequence[str] = (),
    rows: int = 20,
    fields: dict[str, Any] | None = None,
    **changes: Any,
) -> RunRecord:
    """A run that ended with these accuracies; its curves rise to `val`."""
    settings = config(seed=seed, **changes)
    record = RunRecord(
        config=settings,
        config_hash=config_hash(settings),
        overrides=list(overrides),
        seed=seed,
        name=settings["name"],
        status=status,
        objective={"name": "val/accuracy", "mode": "max", "value": val, "step": 500},
        metrics={
            "train": {"loss": 1.1 - val, "accuracy": min(1.0, val + 0.02)},
            "val": {"loss": 1.2 - val, "accuracy": val},
            "test": {"loss": 1.25 - val, "accuracy": val - 0.01 if test is None else test},
        },
        steps=500,
        epochs=5.0,
        seconds={"startup": 1.5, "train": 20.0 + seed, "test": 0.5, "total": 22.0 + seed},
        images_per_second=3200.0,
        parameters={"total": 272474, "trainable": 272474},
        device="a test device",
        data={"name": "digits", "sha256": "ab" * 32, "train": 1293, "val": 144, "test": 360},
        versions={"python": "3.11.7", "torch": "2.11.0"},
        git={"commit": "c0ffee", "dirty": False},
    )
    for key, value in (fields or {}).items():
        setattr(record, key, value)
    folder.mkdir(parents=True)
    record.write(folder)
    (folder / "metrics.csv").write_text(curves(val, seed, rows, settings["optimizer"]["lr"]))
    return record


def curves(val: float, seed: int, rows: int, lr: float) -> str:
    """A training row and a validation row for each of `rows` intervals over five epochs."""
    lines = [HEADER]
    for at in range(1, rows + 1):
        share = at / rows
        step, epoch = round(500 * share), 5 * share
        wave = 0.004 * math.sin(7 * share + 3 * seed)
        accuracy = val * (1 - 0.7 * math.exp(-5 * share)) + wave
        loss = 2.3 * math.exp(-3 * share) + 1.2 - val - wave
        rate, momentum = lr * (1 + 9 * (1 - abs(2 * share - 1))), 0.95 - 0.1 * (1 - abs(2 * share - 1))
        shared = f"{step},{epoch},{20 * share},{rate},{momentum}"
        lines.append(f"{shared},{0.9 * loss},{accuracy + 0.01},,")
        lines.append(f"{step},{epoch},{20 * share},,,,,{loss},{accuracy}")
    return "\n".join(lines) + "\n"


def write_sweep(folder: Path, keys: Sequence[str], jobs: Sequence[tuple[str, Sequence[str]]]) -> None:
    """`sweep.json` with `jobs` of (slug, overrides)."""
    folder.mkdir(parents=True, exist_ok=True)
    swept = [
        f"{key}="
        + ",".join(dict.fromkeys(text.partition("=")[2] for _, over in jobs for text in over if key in text))
        for key in keys
    ]
    content = {
        "schema_version": 1,
        "command": ["src/train.py", "-m", "model=resnet20", *swept],
        "keys": list(keys),
        "jobs": [{"slug": slug, "overrides": list(overrides), "folder": slug} for slug, overrides in jobs],
    }
    (folder / "sweep.json").write_text(json.dumps(content))


def weight_decay_sweep(folder: Path, decays: Sequence[float], seeds: Sequence[int], accuracies: Any) -> None:
    """A grid of wd and seed; `accuracies[wd][seed]` is the validation accuracy."""
    jobs = []
    for wd in decays:
        for seed in seeds:
            slug, overrides = f"wd={wd:g},seed={seed}", [f"optimizer.wd={wd:g}", f"seed={seed}"]
            jobs.append((slug, overrides))
            write_run(
                folder / slug,
                val=accuracies[wd][seed],
                seed=seed,
                overrides=["model=resnet20", *overrides],
                optimizer__wd=wd,
            )
    write_sweep(folder, ["optimizer.wd", "seed"], jobs)


def screen_text(folder: Path, metric: str | None = None) -> str:
    """What a terminal shows of the runs below a folder."""
    return text_of(content_of([folder], load([folder]), metric))
