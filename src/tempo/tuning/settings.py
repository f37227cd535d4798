"""The keys of `tune`, and what `src/tune.py` refuses before torch is imported."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from tempo.command_line.check_before_run import CheckBeforeRun
from tempo.config.schema import field_types
from tempo.config.value_types import check_present, check_types
from tempo.errors import UserError

LEAST = {
    "budget_epochs": 1,
    "budget_minutes": 0.1,
    "short_epochs": 1,
    "short_seeds": 1,
    "range_steps": 100,
    "compare_seeds": 0,
}


@dataclass(frozen=True, kw_only=True)
class TuneSettings:
    """The keys of `tune` in conf/tune.yaml."""

    budget_epochs: int | None
    budget_minutes: float | None
    short_epochs: int | Literal["auto"]
    short_seeds: int
    range_steps: int
    momenta: list[float]
    weight_decays: list[float] | Literal["auto"]
    batch_sizes: list[int] | Literal["auto"]
    compare_seeds: int

    @classmethod
    def of(cls, node: Mapping[str, Any]) -> TuneSettings:
        """Check the node's types and ranges; UserError with the override that mends it."""
        check_types("tune", node, field_types(cls))
        check_present("tune", node, field_types(cls))
        settings = cls(**node)
        for key, bound in LEAST.items():
            value = getattr(settings, key)
            if isinstance(value, (int, float)) and value < bound:
                raise UserError(f"tune.{key}={value} must be at least {bound}: tune.{key}={bound}")
        if settings.budget_epochs is not None and settings.budget_minutes is not None:
            raise UserError(
                "tune.budget_epochs and tune.budget_minutes are two budgets: leave one of them null"
            )
        for key in ("weight_decays", "batch_sizes"):
            if getattr(settings, key) == []:
                raise UserError(f"tune.{key}=[] has no value to try: tune.{key}=auto, or name one value")
        settings._check_values()
        return settings

    def _check_values(self) -> None:
        ranges: dict[str, tuple[Callable[[float], bool], str]] = {
            "momenta": (lambda x: 0 <= x < 1, "in [0, 1)"),
            "weight_decays": (lambda x: 0 <= x < math.inf, "0 or more"),
            "batch_sizes": (lambda x: x >= 1, "1 or more"),
        }
        for key, (holds, words) in ranges.items():
            values = getattr(self, key)
            if values != "auto" and (wrong := [each for each in values if not holds(each)]):
                raise UserError(f"tune.{key}={values}: {wrong[0]} must be {words}; leave it out")


NO_VALIDATION = (
    "the stages choose by validation, and data.val_size leaves no images for it: data.val_size=0.1"
)


class CheckBeforeTune(CheckBeforeRun):
    """As before a run, and besides the keys of `tune`, which no run has."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """End the process with one line where the procedure cannot work."""
        try:
            settings_of(config)
            if rows := config.hydra.sweeper.rows:
                raise UserError(f"the experiment is a table of {len(rows)} runs: name one of its rows")
            if OmegaConf.select(config, "data.val_size") == 0:
                raise UserError(NO_VALIDATION)
            kept_overrides([str(each) for each in config.hydra.overrides.task])
        except UserError as error:
            sys.exit(str(error))
        super().on_run_start(OmegaConf.masked_copy(config, [str(key) for key in config if key != "tune"]))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse to be swept."""
        sys.exit("src/tune.py tunes one setting at a time: leave -m out, and call it once for each")


def settings_of(config: DictConfig) -> TuneSettings:
    """The checked settings of a composed configuration; UserError as `TuneSettings.of`."""
    settings = OmegaConf.select(config, "tune")
    if not isinstance(settings, DictConfig):
        raise UserError(f"tune={settings!r} must be a group of keys: leave it out, or override tune.<key>")
    node = OmegaConf.to_container(settings, resolve=True)
    assert isinstance(node, dict)
    return TuneSettings.of({str(key): value for key, value in node.items()})


def kept_overrides(overrides: Sequence[str]) -> list[str]:
    """The overrides that each run of the procedure gets; UserError for one that the procedure itself sets."""
    kept = [each for each in overrides if not _key(each).startswith("tune.")]
    for each in kept:
        if _key(each) == "trainer.max_steps":
            raise UserError(f"{each}: the procedure plans in epochs; set trainer.epochs instead")
        if _key(each).partition(".")[0] in ("scheduler", "resume", "preview"):
            raise UserError(f"{each}: the procedure sets it by itself; leave it out")
    return kept


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")
