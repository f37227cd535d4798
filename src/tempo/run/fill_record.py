"""Fill in a run's record: its start, the parts built, its test and its end."""

from __future__ import annotations

import math
import secrets
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from tempo.config.schema import OWN, RunConfig
from tempo.data.run_data_module import ImageDataModule
from tempo.errors import printable
from tempo.optimizer.knobs import RATE_KEYS
from tempo.optimizer.parameter_groups import parameter_groups
from tempo.record.atomic_write import write_atomically
from tempo.record.environment import (
    DIFF_FILE,
    LARGEST_DIFF,
    cpu_name,
    git_state,
    surroundings,
    switches,
    versions,
)
from tempo.record.metric_names import metric_mode
from tempo.record.read_file import read_start
from tempo.record.run_json import RUN_ID, RunRecord, config_hash
from tempo.record.test_images import ClassifiedImages
from tempo.run.build_run import RunParts
from tempo.task.classifier import Classifier
from tempo.trainer.checkpoint_file import weights_sha256
from tempo.trainer.checkpoints import ChosenState, evaluated_value
from tempo.trainer.stop_ranks_on_signal import Interrupted
from tempo.trainer.stopping_rules import Diverged, Pruned


def first_record(
    config: RunConfig, overrides: Sequence[str], choices: dict[str, str]
) -> tuple[RunRecord, bytes]:
    """Return the record of a run that starts now in this process, and the diff of the checkout."""
    git, diff = git_state()
    record = RunRecord(
        config=dict(config.values),
        config_hash=config_hash(config.values),
        overrides=list(overrides),
        choices=choices,
        seed=config.seed,
        name=config.name,
        started_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        argv=[Path(sys.argv[0]).name, *sys.argv[1:]],
        versions=versions(),
        git=git,
        environment=surroundings(),
    )
    names = ("started_at", "argv", "versions", "git", "environment")
    record.sessions = [{name: getattr(record, name) for name in names}]
    record.sessions[0][RUN_ID] = secrets.token_hex(8)
    return record, diff


def keep_diff(record: RunRecord, folder: Path, diff: bytes, *, resumed: bool) -> None:
    """Write the diff next to the record; if it differs from an earlier session's, give it a new name."""
    if not diff:
        return
    name, kept = DIFF_FILE, diff[:LARGEST_DIFF]
    if resumed and (folder / name).exists() and read_start(folder / name, LARGEST_DIFF + 1) != kept:
        name = f"git_{record.git['diff_sha256'][:12]}.diff"
    record.git["diff"] = name
    write_atomically(folder / name, kept)


def record_parts(record: RunRecord, parts: RunParts, world_size: int) -> None:
    """Record the parts that were built: data, network, batch, objective, device and numerics."""
    data, plan, device = parts.data, parts.plan, parts.trainer.strategy.root_device
    parameters = list(parts.task.network.parameters())
    record.world_size = world_size
    record.device = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    record.data = {
        "name": data.name,
        "note": data.note,
        "sha256": data.sha256,
        "train": data.sizes["train"],
        "val": data.sizes["val"],
        "test": data.sizes["test"],
    }
    if data.shape is not None:
        record.data["shape"] = list(data.shape)
    if data.classes:
        record.data["classes"] = len(data.classes)
        record.data["class_names"] = [printable(name) for name in data.classes]
    if data.has_label_sets:
        record.data["label_sets"] = True
    if isinstance(data, ImageDataModule) or isinstance(parts.task.module, Classifier):
        mean, std = data.mean_and_std
        record.data |= {"mean": list(mean), "std": list(std)}
    if (counts := data.class_counts) is not None:
        record.data |= {"class_counts": counts, "reading": dict(data.reading)}
    record.data["remarks"] = list(data.remarks)
    if not isinstance(data, ImageDataModule):
        record.data |= {"identity": data.identity, "batches": data.order}
    record.parameters = {
        "total": sum(parameter.numel() for parameter in parameters),
        "trainable": sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
    }
    if groups := _rate_groups(record.config["optimizer"], parts.task.network):
        record.parameters["groups"] = groups
    record.batch = {
        "total": plan.total_batch_size,
        "per_device": plan.per_device,
        "accumulate": plan.accumulate,
    }
    record.environment |= _numerics(device)
    objective, mode = record.config["objective"], record.config.get("objective_mode", "auto")
    record.objective = {"name": objective, "mode": metric_mode(objective, mode)}


def _rate_groups(optimizer: Mapping[str, Any], network: torch.nn.Module) -> list[dict[str, float]]:
    """Return the number of trained parameters for each factor of the learning rate; empty if all have 1."""
    if optimizer["_target_"] == OWN:
        return []
    rates = {key: optimizer.get(key) for key in RATE_KEYS}
    groups = parameter_groups(network, wd=None, decay_norm_and_bias=True, **rates)
    if not any("lr_scale" in group for group in groups):
        return []
    return [
        {"lr_scale": group.get("lr_scale", 1.0), "total": sum(value.numel() for value in group["params"])}
        for group in groups
    ]


def _numerics(device: torch.device) -> dict[str, Any]:
    """Return the torch settings and CPU or GPU features that can change the last bits of a number."""
    found: dict[str, Any] = {
        "variables": switches(),  # read again, since deterministic algorithms have set some by now
        "threads": {"intra_op": torch.get_num_threads(), "inter_op": torch.get_num_interop_threads()},
        "matmul_precision": torch.get_float32_matmul_precision(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
    if device.type == "cuda":
        found |= {
            "cuda": torch.version.cuda or "",
            "cudnn": torch.backends.cudnn.version(),
            "gpu_capability": ".".join(map(str, torch.cuda.get_device_capability(device))),
            "tf32": {
                "matmul": torch.backends.cuda.matmul.allow_tf32,
                "cudnn": torch.backends.cudnn.allow_tf32,
            },
        }
    return found


def record_exchange(record: RunRecord, parts: RunParts) -> None:
    """Record the parameter server's traffic and the number of workers that took steps."""
    for part in (parts.task.module, parts.trainer.strategy):
        record.exchange = getattr(part, "exchange", record.exchange)  # also absent before the first step
    if workers := record.exchange.get("steps_of_workers"):
        record.world_size = len(workers)


def record_test(record: RunRecord, parts: RunParts, chosen: ChosenState) -> None:
    """Record which state was chosen, and the results of its test if there is one."""
    record.selected = chosen.selected
    if chosen.val_metrics:
        record.metrics["val"] = chosen.val_metrics
    if parts.tests:
        record.data["test"] = parts.data.sizes["test"]
        record.n_evaluated = parts.data.sizes["test"]
        record.metrics["test"] = dict(parts.task.progress.evaluated)
    objective = record.config["objective"]
    found = record.metrics.get(objective.partition("/")[0], {})
    record.objective |= {"value": evaluated_value(found, objective)}
    record.weights_sha256 = weights_sha256(parts.task.tested_network)


def keep_test_images(parts: RunParts, folder: Path) -> None:
    """Write the confusion matrix of the test, and the wrong images of this process, next to the record."""
    if not parts.tests or not isinstance(parts.task.module, Classifier):
        return
    sums = parts.task.module.sums
    if sums.confusion_counts is None:
        return
    places = sums.confusion_counts.nonzero()
    counts = sums.confusion_counts[tuple(places.T)]
    confusion = torch.cat((places, counts.unsqueeze(1)), dim=1).tolist()
    wrong = sums.wrong_images.recorded() if sums.wrong_images is not None else []
    ClassifiedImages(list(parts.data.classes), confusion, wrong).write(folder)


def record_end(record: RunRecord, error: BaseException | None) -> None:
    """Record how the run ended: by an exception, or completed if `error` is None."""
    if error is None:
        record.status = "completed"
    elif isinstance(error, Diverged):
        record.status, record.reason = "diverged", str(error)
        record.objective |= {"value": math.nan}
    elif isinstance(error, Pruned):
        record.status, record.reason = "pruned", str(error)
    elif isinstance(error, Interrupted):
        record.status, record.reason = "interrupted", str(error)
    # Lightning turns the KeyboardInterrupt of a second Ctrl-C into SystemExit.
    elif isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt):
        record.status, record.reason = "interrupted", "SIGINT"
    else:
        record.status, record.reason = "failed", f"{type(error).__name__}: {error}".splitlines()[0]
