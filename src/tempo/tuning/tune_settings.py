"""Keys of `tune`, and the checks that `src/tune.py` makes before torch is imported."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from tempo.command_line.check_before_run import CheckBeforeRun
from tempo.config.schema import key, read_section
from tempo.errors import UserError

NO_VALIDATION = (
    "the stages choose by validation, but data.val_size leaves no images for it; set data.val_size=0.1"
)


@dataclass(frozen=True, kw_only=True)
class TuneSettings:
    """The keys of `tune` in conf/tune.yaml; `tune.json` stores their values."""

    order: Literal["paper", "batch_last"] = "paper"
    budget_epochs: int | None = key(None, at_least=1)
    budget_minutes: float | None = key(None, at_least=0.1)
    short_epochs: int | Literal["auto"] = key("auto", at_least=1)
    short_seeds: int = key(2, at_least=1)
    range_steps: int = key(300, at_least=100)
    momenta: Sequence[float] = key((0.9, 0.95, 0.97, 0.99), at_least=0, below=1, example=0.9)
    weight_decays: Sequence[float] | Literal["auto"] = key("auto", at_least=0)
    batch_sizes: Sequence[int] | Literal["auto"] = key("auto", at_least=1)
    compare_seeds: int = key(3, at_least=0)

    def choosing_seeds(self, first: int) -> range:
        """Return the seeds of the range test and the short runs.

        None of them is a seed of the final runs and the comparison, which begin at `first`.
        """
        first += max(1, self.compare_seeds)
        return range(first, first + self.short_seeds)


def read_settings(node: Mapping[str, Any]) -> TuneSettings:
    """Check the types and ranges of a `tune` node; raise UserError with an override that fixes it."""
    settings = read_section(TuneSettings, "tune", node)
    if settings.budget_epochs is not None and settings.budget_minutes is not None:
        raise UserError(
            "tune.budget_epochs and tune.budget_minutes exclude each other; set one of them to null"
        )
    for name in ("weight_decays", "batch_sizes"):
        if not getattr(settings, name):
            raise UserError(f"tune.{name}=[] has no value to try; set tune.{name}=auto, or name one value")
    return settings


class CheckBeforeTune(CheckBeforeRun):
    """Check the keys of `tune`, then the configuration of the runs, which lacks these keys."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """End the process with one line if the procedure cannot work."""
        try:
            settings_of(config)
            if rows := config.hydra.sweeper.rows:
                raise UserError(f"the experiment is a table of {len(rows)} runs; name one of its rows")
            if OmegaConf.select(config, "data.val_size") == 0:
                raise UserError(NO_VALIDATION)
            kept_overrides([str(override) for override in config.hydra.overrides.task])
        except UserError as error:
            sys.exit(str(error))
        super().on_run_start(OmegaConf.masked_copy(config, [str(name) for name in config if name != "tune"]))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse to be swept."""
        sys.exit("src/tune.py tunes one setting at a time; leave -m out and run it once per setting")


def settings_of(config: DictConfig) -> TuneSettings:
    """Return the checked settings of a composed configuration; raise UserError as `read_settings` does."""
    settings = OmegaConf.select(config, "tune")
    if not isinstance(settings, DictConfig):
        raise UserError(f"tune={settings!r} must be a group of keys; leave it out, or set tune.<key>")
    node = OmegaConf.to_container(settings, resolve=True)
    assert isinstance(node, dict)
    return read_settings({str(name): value for name, value in node.items()})


def kept_overrides(overrides: Sequence[str]) -> list[str]:
    """Return the overrides for every run; raise UserError for one that the procedure sets itself."""
    kept = []
    for override in overrides:
        name = override.partition("=")[0].lstrip("+~")
        if name == "trainer.max_steps":
            raise UserError(f"{override}: the procedure plans in epochs; set trainer.epochs instead")
        if name.partition(".")[0] in ("scheduler", "resume", "preview"):
            raise UserError(f"{override}: the procedure sets it itself; leave it out")
        if not name.startswith("tune."):
            kept.append(override)
    return kept
