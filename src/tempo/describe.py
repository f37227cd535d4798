"""What the record of a run says of its beginning and of what was built for it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import torch

from tempo.compose import Data
from tempo.config import Config
from tempo.data.batches import BatchPlan
from tempo.environment import cpu_name, git_state, versions
from tempo.record import RunRecord, config_hash
from tempo.trainer.module import Classifier


def first_record(config: Config, overrides: Sequence[str], choices: dict[str, str]) -> RunRecord:
    """The record of a run that starts now in this process, with one session: this one."""
    record = RunRecord(
        config=dict(config),
        config_hash=config_hash(config),
        overrides=list(overrides),
        choices=choices,
        seed=config["seed"],
        name=config["name"],
        started_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        argv=[Path(sys.argv[0]).name, *sys.argv[1:]],
        versions=versions(),
        git=git_state(),
    )
    now = {"started_at": record.started_at, "argv": record.argv}
    record.sessions = [{**now, "versions": record.versions, "git": record.git}]
    return record


def describe(
    record: RunRecord, data: Data, plan: BatchPlan, module: Classifier, device: torch.device
) -> None:
    """Write into the record what was built: data, network, batch, objective, device."""
    network = module.network
    record.world_size = plan.world_size
    record.device = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    record.data = {"name": data.train.name, "sha256": data.sha256, **data.sizes}
    record.parameters = {
        "total": sum(each.numel() for each in network.parameters()),
        "trainable": sum(each.numel() for each in network.parameters() if each.requires_grad),
    }
    record.batch = {
        "total": plan.total_batch_size,
        "per_device": plan.per_device,
        "accumulate": plan.accumulate,
    }
    objective = record.config["objective"]
    record.objective = {"name": objective, "mode": mode(objective)}


def mode(objective: str) -> str:
    """Whether the smallest or the largest value of an objective is the best: `min` or `max`."""
    return "min" if objective.endswith("loss") else "max"
