"""From the configuration's scheduler node to a schedule."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from tempo.errors import UserError


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
