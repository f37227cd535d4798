"""Keys of `scaling` with their types, defaults and ranges; does not import torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from tempo.config.schema import key, read_section
from tempo.errors import UserError

MOST_WORKERS = 1024


@dataclass(frozen=True, kw_only=True)
class ScalingSettings:
    """Settings of `src/scale.py`; conf/measuring.yaml explains each key."""

    networks: list[str] | None = None
    methods: list[Literal["ring", "ps_sync", "ps_async"]] = field(default_factory=lambda: ["ring", "ps_sync"])
    workers: list[int] = field(default_factory=lambda: [1, 2])
    images_per_worker: int = key(32, at_least=1)
    image_size: int = key(256, at_least=1)
    classes: int = key(1000, at_least=2)
    steps: int = key(500, at_least=1)
    warmup_steps: int = key(20, at_least=0)
    interval_steps: int = key(10, at_least=1)
    minutes: float = key(60, above=0)
    beside: list[str] = field(default_factory=list)
    predict: bool = False
    link: str | None = None

    def __post_init__(self) -> None:
        for name in ("networks", "methods", "workers"):
            if getattr(self, name) == []:
                raise UserError(f"scaling.{name}=[] has nothing to measure; list one, or leave it out")
        for count in self.workers:
            if not 1 <= count <= MOST_WORKERS:
                raise UserError(
                    f"scaling.workers={self.workers}: {count} must be in [1, {MOST_WORKERS}]; leave it out"
                )
        for folder in self.beside:
            if not Path(folder).expanduser().is_dir():
                raise UserError(
                    f"scaling.beside: {folder} is not a folder; pass one with points, or leave it out"
                )
        if self.link is not None and not Path(self.link).expanduser().is_file():
            raise UserError(
                f"scaling.link={self.link} is not a file; write one with "
                "torchrun -m tempo.scaling.network_link, or leave it out"
            )
        measured = self.steps - self.warmup_steps
        if measured <= 0:
            raise UserError(
                f"scaling.steps={self.steps}: no step is left after the {self.warmup_steps} of the warm-up; "
                f"set scaling.steps={self.warmup_steps + self.interval_steps}, or scaling.warmup_steps=0"
            )
        if measured < self.interval_steps:
            raise UserError(
                f"scaling.interval_steps={self.interval_steps}: only {measured} steps are measured; set "
                f"scaling.interval_steps={measured}"
            )

    @property
    def intervals(self) -> int:
        """Number of intervals in a run: at least one for the warm-up, then the measured ones."""
        warmup = max(1, -(-self.warmup_steps // self.interval_steps))
        return warmup + (self.steps - self.warmup_steps) // self.interval_steps


def settings_of(config: DictConfig, overrides: Sequence[str]) -> ScalingSettings:
    """Return the checked settings of a composed configuration.

    A key set in `overrides` keeps its value under `scale=smoke`.

    Raises:
        UserError: one line with the value, the reason and an override that fixes it.
    """
    node = OmegaConf.select(config, "scaling")
    if not isinstance(node, DictConfig):
        raise UserError(f"scaling={node!r} must be a group of keys; leave it out, or override scaling.<key>")
    values = OmegaConf.to_container(node, resolve=True)
    assert isinstance(values, dict)
    keys: Mapping[str, Any] = {str(name): value for name, value in values.items() if name != "smoke"}
    smoke = values.get("smoke")
    if isinstance(smoke, dict) and config.scale == "smoke":
        named = {override.partition("=")[0] for override in overrides}
        keys = {**keys, **{name: value for name, value in smoke.items() if f"scaling.{name}" not in named}}
    return read_section(ScalingSettings, "scaling", keys)


def without_scaling(config: DictConfig) -> DictConfig:
    """Return the configuration of a run, without the `scaling` node."""
    return OmegaConf.masked_copy(config, [str(name) for name in config if name != "scaling"])
