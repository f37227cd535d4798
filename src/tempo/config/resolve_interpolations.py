"""Turn Hydra's configuration into plain values: resolve interpolations and `auto` bounds."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from tempo.config.lr_range_bounds import with_bounds
from tempo.config.schedule_choice import with_own_values
from tempo.config.schema import GROUPS, with_defaults
from tempo.errors import UserError
from tempo.paths import LOCAL


def plain(config: DictConfig) -> dict[str, Any]:
    """Resolve every interpolation and `auto` bound, and return plain dicts and lists.

    Raises:
        UserError: an interpolation that cannot be resolved, a missing value, an `auto` bound that the range
            test does not provide, or an error of `with_own_values`.
    """
    job = with_own_values(without_hydra(config) if "hydra" in config else config)
    try:
        values = OmegaConf.to_container(job, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = error.full_key
        if isinstance(error, MissingMandatoryValue):
            raise UserError(f"{key} has no value; give it a value, {key}=<value>") from error
        reason = str(error).splitlines()[0]
        raise UserError(f"{key}: {reason}; leave {key} out, or give it a value") from error
    assert isinstance(values, dict)
    # min_lr was not set by the user if it still follows the optimizer's learning rate.
    min_lr_is_default = is_interpolation(job, "scheduler.min_lr")
    named = _with_absolute_places({str(key): value for key, value in values.items()})
    bounded = with_bounds(named, min_lr_is_default)
    return with_defaults(bounded) if bounded.keys() >= set(GROUPS) else bounded


def _with_absolute_places(values: dict[str, Any]) -> dict[str, Any]:
    """Make relative folders of data absolute: a record is read, and a job runs, in another folder.

    `~` stays, because it may name another folder on another machine.
    """
    data = values.get("data")
    if not isinstance(data, dict):
        return values
    places = {
        key: str(Path(data[key]).absolute())
        for key in ("root", "cache")
        if isinstance(data.get(key), str) and re.match(r"(?!~|\w+://)\s*\S", data[key])
    }
    return {**values, "data": {**data, **places}}


def without_hydra(config: DictConfig) -> DictConfig:
    """Return the job's part of a configuration, with its interpolations."""
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


def is_interpolation(config: DictConfig, key: str) -> bool:
    """Whether the value at a dotted key is `${..}`."""
    parent, _, leaf = key.rpartition(".")
    node = OmegaConf.select(config, parent)
    return isinstance(node, DictConfig) and leaf in node and OmegaConf.is_interpolation(node, leaf)


def composed(config: DictConfig) -> dict[str, Any]:
    """Return the job's part of a configuration with a `hydra` node, as plain values."""
    with hydra_knows(announced(config)):
        return plain(config)


def chosen_options(hydra: Any) -> dict[str, str]:
    """Return the option of each group of the job, from Hydra's own node; groups without one are left out."""
    found = {str(group): option for group, option in hydra.runtime.choices.items()}
    # Hydra lists the optional group `local` even if its file does not exist, and it says nothing of the job.
    return {
        group: str(option)
        for group, option in found.items()
        if option and group != LOCAL and not group.startswith("hydra")
    }


def announced(config: DictConfig) -> Any:
    """Return the value that HydraConfig will have for this configuration."""
    with hydra_knows(None):
        HydraConfig.instance().set_config(config)
        return HydraConfig.instance().cfg


@contextlib.contextmanager
def hydra_knows(config: Any) -> Iterator[None]:
    """Resolve `${hydra:..}` from an `announced` value, before Hydra itself can."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().cfg = config
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before
