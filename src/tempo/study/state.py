"""`tune.json`: the plan of a study and how far it came."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tempo.config import field_types
from tempo.errors import UserError
from tempo.record import write_atomically
from tempo.signature import check_types
from tempo.study.plan import Plan

STATE_FILE = "tune.json"
STATE_VERSION = 2


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Replace the study's `tune.json`."""
    text = json.dumps({"schema_version": STATE_VERSION, **state}, indent=2)
    write_atomically(folder / STATE_FILE, text + "\n")


def known_plan(folder: Path, command: Mapping[str, Any]) -> Plan | None:
    """The plan of an earlier call of the same command; None where there is none of this version.

    `command`: what the user asked for, as `tune.json` keeps it.

    Raises:
        UserError: the folder has the study of another command, or its plan is damaged.
    """
    path = folder / STATE_FILE
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        if state.get("schema_version") != STATE_VERSION:
            return None
    except (OSError, ValueError, AttributeError):
        return None
    for key, now in command.items():
        if (then := state.get(key)) != now:
            raise UserError(
                f"{path} is of a study with other {key}, {_differing(then, now)}: choose another "
                "hydra.run.dir=<folder>, or give the overrides of that study"
            )
    try:
        check_types("plan", state["plan"], field_types(Plan))
        return Plan(**state["plan"])
    except (KeyError, TypeError, AttributeError, UserError) as error:
        raise UserError(
            f"{path} has no plan that can be used ({error}): remove this file; finished runs count again"
        ) from None


def _differing(then: Any, now: Any) -> str:
    """What only one of two lists of overrides, or of two mappings of settings, has."""
    old, new = (
        [f"tune.{key}={value}" for key, value in each.items()] if isinstance(each, dict) else list(each or ())
        for each in (then, now)
    )
    there, here = ([str(e) for e in a if e not in b] for a, b in ((old, new), (new, old)))
    return f"{' '.join(there) or 'none'} there and {' '.join(here) or 'none'} here"
