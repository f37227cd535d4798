"""What the record of a run says of its beginning and of what was built for it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from tempo.config.check import Config
from tempo.data.batches import BatchPlan
from tempo.record.atomic_write import write_atomically
from tempo.record.comparison import causes
from tempo.record.environment import (
    DIFF_FILE,
    LARGEST_DIFF,
    cpu_name,
    git_state,
    same_source,
    surroundings,
    switches,
    versions,
)
from tempo.record.run_json import RunRecord, config_hash
from tempo.run.build import Data
from tempo.task.classifier import Classifier


def first_record(
    config: Config, overrides: Sequence[str], choices: dict[str, str]
) -> tuple[RunRecord, bytes]:
    """The record of a run that starts now in this process, with one session, and the diff of its checkout."""
    git, diff = git_state()
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
        git=git,
        environment=surroundings(),
    )
    names = ("started_at", "argv", "versions", "git", "environment")
    record.sessions = [{name: getattr(record, name) for name in names}]
    return record, diff


def keep_diff(record: RunRecord, folder: Path, diff: bytes, *, resumed: bool) -> None:
    """Write the diff beside the record; one unlike an earlier session's gets its own name."""
    if not diff:
        return
    name = DIFF_FILE
    if resumed and (folder / name).exists() and (folder / name).read_bytes() != diff[:LARGEST_DIFF]:
        name = f"git_{record.git['diff_sha256'][:12]}.diff"
    record.git["diff"] = name
    write_atomically(folder / name, diff[:LARGEST_DIFF])


def describe(
    record: RunRecord, data: Data, plan: BatchPlan, module: Classifier, device: torch.device
) -> None:
    """Write into the record what was built: data, network, batch, objective, device."""
    network = module.network
    record.world_size = plan.world_size
    record.device = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    record.data = {
        "name": data.train.name,
        "sha256": data.sha256,
        "train": data.sizes["train"],
        "val": data.sizes["val"],
        "test": data.sizes["test"],
        "shape": list(data.train.shape),
        "classes": len(data.train.classes),
    }
    record.parameters = {
        "total": sum(each.numel() for each in network.parameters()),
        "trainable": sum(each.numel() for each in network.parameters() if each.requires_grad),
    }
    record.batch = {
        "total": plan.total_batch_size,
        "per_device": plan.per_device,
        "accumulate": plan.accumulate,
    }
    record.environment |= _numerics(device)
    objective = record.config["objective"]
    record.objective = {"name": objective, "mode": mode(objective)}


def _numerics(device: torch.device) -> dict[str, Any]:
    """What torch was told, or found, that can change the last bits of a number."""
    found: dict[str, Any] = {
        "variables": switches(),  # again: deterministic algorithms have set some by now
        "threads": {"intra_op": torch.get_num_threads(), "inter_op": torch.get_num_interop_threads()},
        "matmul_precision": torch.get_float32_matmul_precision(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        found |= {
            "cuda": torch.version.cuda or "",
            "cudnn": torch.backends.cudnn.version(),
            "gpu_capability": ".".join(map(str, capability)),
            "tf32": {
                "matmul": torch.backends.cuda.matmul.allow_tf32,
                "cudnn": torch.backends.cudnn.allow_tf32,
            },
        }
    return found


def changes_since(before: RunRecord, now: RunRecord) -> list[str]:
    """What a resumed run no longer has as its record says: code, versions, threads, machine."""
    if "threads" not in before.environment:  # it was killed before it was built, or is of an old version
        return []
    commits = [str(each.git.get("commit", "")) for each in (before, now)]
    return causes(before, dataclasses.replace(now, sessions=[]), same_source=same_source(*commits))


def mode(objective: str) -> str:
    """Whether the smallest or the largest value of an objective is the best: `min` or `max`."""
    return "min" if objective.endswith("loss") else "max"
