"""Read and write `tune.json`: the plan of a procedure and its progress."""

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
from tempo.record.read_file import read_text
from tempo.record.run_json import FILE_NAME
from tempo.tuning.plan import Plan, Price

TUNE_FILE = "tune.json"
SCHEMA_VERSION = 3


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Replace `tune.json` in the folder of a procedure."""
    text = json.dumps({"schema_version": SCHEMA_VERSION, **state}, indent=2)
    write_atomically(folder / TUNE_FILE, text + "\n")


@dataclass(frozen=True)
class EarlierCalls:
    """Plan and cost of earlier calls of the same command; no plan if they did not get that far."""

    plan: Plan | None = None
    price: Price | None = None
    cuts: list[str] = field(default_factory=list)
    seconds: float = 0.0


def read_state(folder: Path, command: Mapping[str, Any]) -> EarlierCalls:
    """Read `tune.json`; if there is none of this schema version, assume no earlier call.

    `command` has the user's overrides and settings, as stored in `tune.json`.

    Raises:
        UserError: the folder has the procedure of another command, or its plan is damaged.
    """
    path = folder / TUNE_FILE
    try:
        state = json.loads(read_text(path))
        if state.get("schema_version") != SCHEMA_VERSION:
            return EarlierCalls()
    except (OSError, ValueError, AttributeError, RecursionError):
        return EarlierCalls()
    for key, now in command.items():
        if (then := state.get(key)) != now:
            raise UserError(
                f"{path} belongs to a procedure with other {key}, {_difference(then, now)}; choose another "
                "hydra.run.dir=<folder>, or give the overrides of that procedure"
            )
    try:
        seconds = float(state["seconds"]) + _unsaved_seconds(folder)
        if state["plan"] is None:
            return EarlierCalls(seconds=seconds)
        check_types("plan", state["plan"], field_types(Plan))
        check_types("price", state["price"], field_types(Price))
        plan, price = Plan(**state["plan"]), Price(**state["price"])
        return EarlierCalls(plan, price, list(map(str, state["cuts"])), seconds)
    except (KeyError, TypeError, ValueError, AttributeError, UserError) as error:
        raise UserError(
            f"{path} has a damaged plan ({error}); remove this file, the finished runs will be reused"
        ) from None


def _unsaved_seconds(folder: Path) -> float:
    """Return the seconds a killed call ran after it last saved, according to its runs' records."""
    saved = (folder / TUNE_FILE).stat().st_mtime
    written = [path.stat().st_mtime for path in folder.glob(f"*/{FILE_NAME}")]
    return max(0.0, max(written, default=saved) - saved)


def _difference(then: Any, now: Any) -> str:
    """Describe the overrides or settings that only one of two calls has."""
    old, new = _overrides(then), _overrides(now)
    removed = " ".join(override for override in old if override not in new)
    added = " ".join(override for override in new if override not in old)
    return f"{removed or 'none'} there and {added or 'none'} here"


def _overrides(values: Any) -> list[str]:
    if isinstance(values, dict):
        return [f"tune.{key}={value}" for key, value in values.items()]
    return [str(value) for value in values or ()]
