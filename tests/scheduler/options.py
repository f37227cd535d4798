"""The schedules of conf/scheduler, built as a run builds them; a new YAML gets every test from here."""

from __future__ import annotations

import importlib
from typing import Any

from omegaconf import OmegaConf

from tempo.paths import ROOT, register_resolvers
from tempo.scheduler.schedule import Schedule
from tests.jobs import options

OPTIONS = options("scheduler")


def settings(option: str, **overrides: Any) -> dict[str, Any]:
    """The resolved node of an option beside an optimizer of lr 0.1."""
    register_resolvers()
    node = OmegaConf.load(ROOT / "conf" / "scheduler" / f"{option}.yaml")
    config = OmegaConf.create({"optimizer": {"lr": 0.1}, "scheduler": OmegaConf.merge(node, overrides)})
    resolved = OmegaConf.to_container(config, resolve=True)
    assert isinstance(resolved, dict)
    return dict(resolved["scheduler"])


def build(option: str, **overrides: Any) -> Schedule:
    """The schedule of an option, with overrides as a user gives them."""
    keys = settings(option, **overrides)
    module, _, name = keys.pop("_target_").rpartition(".")
    return getattr(importlib.import_module(module), name)(**keys)
