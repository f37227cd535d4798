"""Hydra callback that refuses a wrong benchmark before torch is imported and a folder is created."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tempo.command_line.check_before_run import CheckBeforeRun
from tempo.command_line.error_messages import listed, options_of
from tempo.config.resolve_interpolations import composed
from tempo.errors import UserError, nearest
from tempo.scaling.plan import Network, plan_of
from tempo.scaling.scale_settings import ScalingSettings, settings_of, without_scaling

USED = {"model", "optimizer", "trainer", "server", "scaling", "seed", "name", "experiment", "scale"}
"""Keys and groups that the benchmark uses."""
OWN_KEYS = {"devices": "workers", "method": "methods", "max_steps": "steps", "epochs": "steps"}
"""Keys of `trainer` that the benchmark sets for each point -> the key of `scaling` to use instead."""


class CheckBeforeScaling(CheckBeforeRun):
    """Check the keys of `scaling` and the run of every point, then make the checks of any run."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """End the process with one line if the benchmark cannot work."""
        try:
            overrides = [str(override) for override in config.hydra.overrides.task]
            check_used(overrides)
            values = composed(without_scaling(config))
            settings = settings_of(config, overrides)
            for option in settings.networks or []:
                check_network(option)
            check_points(values, settings)
        except UserError as error:
            sys.exit(str(error))
        # max_staleness belongs to only one of the methods, so a plain run with another would refuse it.
        as_a_run = OmegaConf.merge(without_scaling(config), {"server": {"max_staleness": None}})
        assert isinstance(as_a_run, DictConfig)
        super().on_run_start(as_a_run)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse to be swept."""
        sys.exit(
            "src/scale.py measures one point at a time, so that points do not share the machine; leave -m "
            "out, and pass lists: scaling.networks=[..] scaling.methods=[..] scaling.workers=[..]"
        )


def check_used(overrides: Sequence[str]) -> None:
    """Raise UserError for an override of a run that the benchmark does not use."""
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if (first := key.partition(".")[0].partition("/")[0]) not in USED:
            instead = {"data": "; the images are scaling.image_size and scaling.images_per_worker"}
            why = f"the benchmark does not use it{instead.get(first, '')}"
            raise UserError(f"{override}: {why}; leave it out")
        section, _, leaf = key.partition(".")
        if section == "trainer" and leaf in OWN_KEYS:
            raise UserError(f"{override}: the benchmark sets it itself; use scaling.{OWN_KEYS[leaf]}")


def check_network(option: str) -> None:
    """Raise UserError for a network that is not an option of conf/model, with or without a name after it."""
    group, _, _ = option.partition("/")
    options = options_of("model")
    if group not in options:
        raise UserError(
            f"scaling.networks: {option} is not an option of conf/model.{nearest(group, options)} "
            f"Choose from: {listed(options)}; use torchvision/<name> or timm/<name> for a library's networks"
        )
    if group == "timm" and importlib.util.find_spec("timm") is None:
        raise UserError(
            f"scaling.networks: {option} needs timm; run pip install -e '.[models]', or leave it out"
        )


def check_points(values: Mapping[str, Any], settings: ScalingSettings) -> None:
    """Refuse a point if training itself would refuse its run.

    Raises:
        UserError: an error of `plan_of`, several nodes, or a split network, which the benchmark lacks.
    """
    trainer = values["trainer"]
    if trainer["num_nodes"] != 1:
        raise UserError(
            f"trainer.num_nodes={trainer['num_nodes']}: src/scale.py starts the workers of one machine; "
            "leave it out (over several machines: docs/scaling.md)"
        )
    if trainer["shard"]:
        raise UserError("trainer.shard=true is not a method of the benchmark; set trainer.shard=false")
    if settings.predict:  # a prediction measures only one worker
        settings = replace(settings, workers=[1])
    plan_of(values, settings, [Network("network", values["model"])], Path())
