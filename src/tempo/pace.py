"""The schedule that a run will follow: that of conf/scheduler, at the run's batch size."""

from __future__ import annotations

from tempo.config import Config
from tempo.schedule_node import build_schedule
from tempo.scheduler.scaled import Scaled, scale_factor
from tempo.scheduler.schedule import Schedule


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
