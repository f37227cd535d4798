"""From the configuration to the schedule of a run, at the run's batch size."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from tempo.errors import UserError
from tempo.scheduler.scaled import Scaled, scale_factor
from tempo.scheduler.schedule import Schedule

Config = Mapping[str, Any]


def build_schedule(node: Mapping[str, Any]) -> Any:
    """The schedule of `conf/scheduler`; schedules are pure values, so this costs no import of torch."""
    module, _, name = str(node["_target_"]).rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"scheduler._target_={node['_target_']} cannot be imported: {error}; "
            "scheduler=<option of conf/scheduler>"
        ) from error
    values = {
        key: tuple(each) if isinstance(each, list) else each
        for key, each in node.items()
        if key != "_target_"
    }
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise UserError(f"scheduler: {error}") from error


def schedule_of(config: Config) -> Schedule:
    """The configured schedule, its rate scaled where `trainer.lr_scaling` says so."""
    schedule: Schedule = build_schedule(config["scheduler"])
    factor = lr_factor(config)
    return schedule if factor == 1 else Scaled(schedule, factor)


def lr_factor(config: Config) -> float:
    """Of the learning rate, by the total batch size against `trainer.lr_reference_batch`."""
    trainer = config["trainer"]
    if trainer.get("lr_scaling", "none") == "none":  # records of before have no such key
        return 1.0
    return scale_factor(
        rule=trainer["lr_scaling"],
        total_batch_size=config["data"]["total_batch_size"],
        reference_batch=trainer["lr_reference_batch"],
    )
