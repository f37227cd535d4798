"""`tune.json`: the plan of a study and how far it came."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tempo.config.schema import field_types
from tempo.config.value_types import check_types
from tempo.errors import UserError
from tempo.record.atomic_write import write_atomically
from tempo.record.run_json import FILE_NAME
from tempo.tuning.plan import Plan, Price

STATE_FILE = "tune.json"
STATE_VERSION = 3


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Replace the study's `tune.json`."""
    text = json.dumps({"schema_version": STATE_VERSION, **state}, indent=2)
    write_atomically(folder / STATE_FILE, text + "\n")


@dataclass(frozen=True)
class Known:
    """What an earlier call of the same command has settled and spent; no plan where it came to none."""

    plan: Plan | None = None
    price: Price | None = None
    cuts: list[str] = field(default_factory=list)
    seconds: float = 0.0


def known(folder: Path, command: Mapping[str, Any]) -> Known:
    """What `tune.json` says of earlier calls; of nothing where there is none of this version.

    `command`: what the user asked for, as `tune.json` keeps it.

    Raises:
        UserError: the folder has the study of another command, or its plan is damaged.
    """
    path = folder / STATE_FILE
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        if state.get("schema_version") != STATE_VERSION:
            return Known()
    except (OSError, ValueError, AttributeError, RecursionError):
        return Known()
    for key, now in command.items():
        if (then := state.get(key)) != now:
            raise UserError(
                f"{path} is of a study with other {key}, {_differing(then, now)}: choose another "
                "hydra.run.dir=<folder>, or give the overrides of that study"
            )
    try:
        seconds = float(state["seconds"]) + _unsaved_seconds(folder)
        if state["plan"] is None:
            return Known(seconds=seconds)
        check_types("plan", state["plan"], field_types(Plan))
        check_types("price", state["price"], field_types(Price))
        return Known(Plan(**state["plan"]), Price(**state["price"]), list(map(str, state["cuts"])), seconds)
    except (KeyError, TypeError, ValueError, AttributeError, UserError) as error:
        raise UserError(
            f"{path} has no plan that can be used ({error}): remove this file; finished runs count again"
        ) from None


def _unsaved_seconds(folder: Path) -> float:
    """How long a call that was killed was at work after it last saved: its runs write their records on."""
    saved = (folder / STATE_FILE).stat().st_mtime
    signs = [path.stat().st_mtime for path in folder.glob(f"*/{FILE_NAME}")]
    return max(0.0, max(signs, default=saved) - saved)


def _differing(then: Any, now: Any) -> str:
    """What only one of two lists of overrides, or of two mappings of settings, has."""
    old, new = (
        [f"tune.{key}={value}" for key, value in each.items()] if isinstance(each, dict) else list(each or ())
        for each in (then, now)
    )
    there, here = ([str(e) for e in a if e not in b] for a, b in ((old, new), (new, old)))
    return f"{' '.join(there) or 'none'} there and {' '.join(here) or 'none'} here"
