"""The keys of `scaling`, and what `src/scale.py` refuses before torch is imported."""

from __future__ import annotations

import contextlib
import importlib.util
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from tempo.command_line.check_before_run import CheckBeforeRun
from tempo.command_line.error_messages import listed, options_of
from tempo.config.check import check
from tempo.config.resolve import composed
from tempo.config.schema import field_types
from tempo.config.signature import check_present, check_types
from tempo.errors import UserError, nearest

Config = Mapping[str, Any]

MEASURED_PRECISIONS = ("32-true", "bf16-mixed", "bf16-true", "64-true")
USED = {"model", "optimizer", "trainer", "server", "scaling", "seed", "name", "experiment", "scale"}
"""Keys and groups that mean something to the benchmark."""
LEAST = {
    "images_per_worker": 1,
    "image_size": 1,
    "classes": 2,
    "steps": 1,
    "warmup_steps": 0,
    "interval_steps": 1,
    "compute_steps": 0,
    "bucket_mb": 0.01,
    "minutes": 0.1,
}
MOST_WORKERS = 1024


@dataclass(frozen=True, kw_only=True)
class ScalingSettings:
    """The keys of `scaling` in conf/scaling.yaml."""

    networks: list[str] | None
    methods: list[Literal["ring", "ps_sync", "ps_async"]]
    workers: list[int]
    images_per_worker: int
    image_size: int
    classes: int
    steps: int
    warmup_steps: int
    interval_steps: int
    compute_steps: int
    bucket_mb: float
    minutes: float
    port: int | None
    beside: list[str]
    predict: bool
    link: str | None

    @classmethod
    def of(cls, node: Mapping[str, Any], smoke: Mapping[str, Any] | None = None) -> ScalingSettings:
        """Check the node's types and ranges; UserError with the override that mends it.

        `smoke` are values in the place of the node's.
        """
        values = {key: value for key, value in node.items() if key != "smoke"}
        known = field_types(cls)
        check_types("scaling", values, known)
        check_present("scaling", values, known)
        if smoke is not None:
            check_types("scaling.smoke", smoke, known)
            values |= smoke
        settings = cls(**values)
        for key, bound in LEAST.items():
            if getattr(settings, key) < bound:
                raise UserError(
                    f"scaling.{key}={getattr(settings, key)} must be at least {bound}: scaling.{key}={bound}"
                )
        settings._check_lists()
        settings._check_steps()
        return settings

    def _check_lists(self) -> None:
        for key in ("networks", "methods", "workers"):
            if getattr(self, key) == []:
                raise UserError(f"scaling.{key}=[] has nothing to measure: name one, or leave it out")
        for each in self.workers:
            if not 1 <= each <= MOST_WORKERS:
                raise UserError(
                    f"scaling.workers={self.workers}: {each} must be in [1, {MOST_WORKERS}]; leave it out"
                )
        for folder in self.beside:
            if not Path(folder).expanduser().is_dir():
                raise UserError(
                    f"scaling.beside: {folder} is no folder: name one with points, or leave it out"
                )

        if self.link is not None and not Path(self.link).expanduser().is_file():
            raise UserError(
                f"scaling.link={self.link} is no file: write one with torchrun -m tempo.scaling.link, or "
                "leave it out"
            )

    def _check_steps(self) -> None:
        if self.steps <= self.warmup_steps:
            raise UserError(
                f"scaling.steps={self.steps}: none is left after the {self.warmup_steps} of the warm-up: "
                f"scaling.steps={self.warmup_steps + self.interval_steps}, or scaling.warmup_steps=0"
            )
        if self.steps - self.warmup_steps < self.interval_steps:
            raise UserError(
                f"scaling.interval_steps={self.interval_steps}: only {self.steps - self.warmup_steps} steps "
                f"are measured: scaling.interval_steps={self.steps - self.warmup_steps}"
            )


class CheckBeforeScaling(CheckBeforeRun):
    """As before a run, and besides the keys of `scaling`, and every point of the benchmark."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """End the process with one line where the benchmark cannot work."""
        try:
            overrides = [str(each) for each in config.hydra.overrides.task]
            check_used(overrides)
            values = composed(without_scaling(config))
            settings = settings_of(config, overrides)
            for option in settings.networks or []:
                check_network(option)
            check_port(settings.port)
            check_points(values, settings)
        except UserError as error:
            sys.exit(str(error))
        # A bound on staleness is of one of the methods; a run has one method.
        bound = {"server": {"max_staleness": None}}
        as_a_run = OmegaConf.merge(without_scaling(config), bound)
        assert isinstance(as_a_run, DictConfig)
        super().on_run_start(as_a_run)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse to be swept."""
        sys.exit(
            "src/scale.py measures one point at a time, or they would share the machine: leave -m out, and "
            "give lists: scaling.networks=[..] scaling.methods=[..] scaling.workers=[..]"
        )


def without_scaling(config: DictConfig) -> DictConfig:
    """The configuration as a run has it."""
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "scaling"])


def settings_of(config: DictConfig, overrides: Sequence[str]) -> ScalingSettings:
    """The checked settings of a composed configuration; UserError as `ScalingSettings.of`.

    What `overrides` name themselves is said by no `scale=smoke`.
    """
    node = OmegaConf.select(config, "scaling")
    if not isinstance(node, DictConfig):
        raise UserError(f"scaling={node!r} must be a group of keys: leave it out, or override scaling.<key>")
    values = OmegaConf.to_container(node, resolve=True)
    assert isinstance(values, dict)
    said = {each.partition("=")[0] for each in overrides}
    smoke = values.get("smoke")
    if not isinstance(smoke, dict) or config.scale != "smoke":
        return ScalingSettings.of({str(key): value for key, value in values.items()})
    return ScalingSettings.of(
        {str(key): value for key, value in values.items()},
        {str(key): value for key, value in smoke.items() if f"scaling.{key}" not in said},
    )


def check_used(overrides: Sequence[str]) -> None:
    """UserError for an override of a run that means nothing here."""
    for each in overrides:
        key = each.partition("=")[0].lstrip("+~")
        if (first := key.partition(".")[0].partition("/")[0]) not in USED:
            instead = {"data": "; the images are scaling.image_size and scaling.images_per_worker"}
            raise UserError(f"{each}: the benchmark has no use for it{instead.get(first, '')}; leave it out")
        if key in ("trainer.devices", "trainer.method", "trainer.max_steps", "trainer.epochs"):
            own = {"devices": "workers", "method": "methods", "max_steps": "steps", "epochs": "steps"}
            raise UserError(
                f"{each}: the benchmark sets it by itself; scaling.{own[key.partition('.')[2]]} says it"
            )


def check_network(option: str) -> None:
    """UserError for what is neither an option of conf/model nor one with a name behind it."""
    group, _, _ = option.partition("/")
    options = options_of("model")
    if group not in options:
        raise UserError(
            f"scaling.networks: {option} is no option of conf/model.{nearest(group, options)} "
            f"It has: {listed(options)}; torchvision/<name> and timm/<name> for those of a library"
        )
    if group == "timm" and importlib.util.find_spec("timm") is None:
        raise UserError(
            f"scaling.networks: {option} needs the package timm: pip install -e '.[models]', or leave it out"
        )


def check_port(port: int | None) -> None:
    """UserError where the workers cannot meet at a port."""
    if port is None:
        return
    if not 1 <= port <= 65535:
        raise UserError(f"scaling.port={port} is no port: one in [1024, 65535], or scaling.port=null")
    with contextlib.closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise UserError(
                f"scaling.port={port} cannot be used ({error.strerror}): another one, or scaling.port=null "
                "for one that is free"
            ) from error


def check_points(values: Config, settings: ScalingSettings) -> None:
    """Refuse each point that training itself would refuse.

    Raises:
        UserError: see `check`; several nodes, or a precision that is not measured.
    """
    trainer = values["trainer"]
    if trainer["num_nodes"] != 1:
        raise UserError(
            f"trainer.num_nodes={trainer['num_nodes']}: src/scale.py starts the workers of one machine; "
            "leave it out (over several: torchrun -m tempo.scaling.rank, docs/scaling.md)"
        )
    if trainer["precision"] not in MEASURED_PRECISIONS:
        raise UserError(
            f"trainer.precision={trainer['precision']} is not measured: one of "
            f"{', '.join(MEASURED_PRECISIONS)}"
        )
    if "ps_async" in settings.methods and not settings.predict and importlib.util.find_spec("ray") is None:
        raise UserError(
            "scaling.methods: ps_async needs the package ray: pip install -e '.[ray]', or leave it out"
        )
    if trainer["shard"]:
        raise UserError("trainer.shard=true is not measured: trainer.shard=false")
    for method in ["ring"] if settings.predict else settings.methods:
        for workers in settings.workers:
            check(config_of_point(values, method, workers))


def config_of_point(values: Config, method: str, workers: int) -> dict[str, Any]:
    """The configuration of a run by this method on so many devices."""
    data = values["data"] | {"total_batch_size": workers, "train_images": None}  # of no use here
    method = method if workers > 1 else "ring"
    trainer = values["trainer"] | {"devices": workers, "method": method}
    if workers == 1:  # has nothing to compress
        trainer["compress"] = None
    return {**values, "data": data, "trainer": trainer, "server": server_of(values, method)}


def server_of(values: Config, method: str) -> dict[str, Any]:
    """The keys of `server`, those that are of another method at the one value that this one takes."""
    asynchronous = {"count": 1, "placement": "by_size", "reply": "parameters"}
    return {**values["server"], **(asynchronous if method == "ps_async" else {"max_staleness": None})}
