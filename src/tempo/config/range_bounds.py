"""`lr_range.json`, the result of an LR range test, and the `auto` bounds that a schedule takes from it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tempo.config.schema import COMMON_DATA_KEYS
from tempo.errors import UserError
from tempo.record.run_json import flatten

FILE_NAME = "lr_range.json"
KIND = "lr_range"
SCHEMA_VERSION = 1
AUTO = "auto"
BOUNDS = ("min_lr", "max_lr")


def essentials(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a range test is a range test of, by dotted key: model, data set, optimizer, batch size.

    The learning rate itself is left out, and so is what the test does not depend on.
    """
    data = config["data"]
    # A data set that can be downloaded is the same in any folder; else the folder says which images it is.
    places = ("root", "cache", "download") if "download" in data else ("cache",)
    nodes = {
        "model": config["model"],
        "data": {key: value for key, value in data.items() if key not in places},
        "optimizer": {key: value for key, value in config["optimizer"].items() if key != "lr"},
    }
    return flatten(nodes)


def with_bounds(config: Mapping[str, Any], min_lr_is_default: bool) -> dict[str, Any]:
    """The configuration with numbers in place of `scheduler.max_lr=auto` and `scheduler.min_lr=auto`.

    `min_lr_is_default`: nobody has set scheduler.min_lr, so it goes with an `auto` max_lr.

    Raises:
        UserError: the file is missing, damaged or without a proposal, or is of another model, data set or
            optimizer.
    """
    schedule = config.get("scheduler")
    if not isinstance(schedule, Mapping) or AUTO not in (schedule.get("max_lr"), schedule.get("min_lr")):
        return dict(config)
    if not schedule.get("range_test"):
        raise UserError(
            "scheduler.max_lr=auto takes its value from a range test: name its folder with "
            "scheduler.range_test=<folder of src/lr_range.py>"
        )
    if not isinstance(schedule["range_test"], str):
        raise UserError(
            f"scheduler.range_test={schedule['range_test']!r} is not text: name the folder of src/lr_range.py"
        )
    path = Path(schedule["range_test"]).expanduser().absolute()
    path = path / FILE_NAME if path.is_dir() else path
    bounds = _proposal(_read(path), config, path)
    wanted = {key for key in BOUNDS if schedule.get(key) == AUTO}
    if min_lr_is_default and "max_lr" in wanted:
        wanted.add("min_lr")
    numbers = {key: float(bounds[key]) for key in wanted}
    return {**config, "scheduler": {**schedule, **numbers, "range_test": str(path)}}


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["kind"] != KIND or values["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"kind {values['kind']!r}, schema_version {values['schema_version']!r}")
        if not isinstance(values["settings"], list) or not values["settings"]:
            raise ValueError("no settings")
        for each in values["settings"]:
            if not isinstance(each["essentials"], dict) or not {"label", "proposal", "go_on"} <= each.keys():
                raise ValueError("a setting lacks its essentials or its proposal")
            if each["proposal"] is not None and not all(_is_rate(each["proposal"][key]) for key in BOUNDS):
                raise ValueError("a proposal whose bounds are no numbers above 0")
        assert isinstance(values, dict)
        return values
    except OSError as error:
        raise UserError(
            f"scheduler.range_test={path}: {error.strerror}; make it with src/lr_range.py, name its folder"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"scheduler.range_test={path} is no result of a range test ({error}); run src/lr_range.py again"
        ) from None


def _proposal(test: Mapping[str, Any], config: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The bounds of the setting that this configuration is of."""
    now, settings = essentials(config), test["settings"]
    then = settings[0]["essentials"]
    # What tells the settings apart is chosen from below: a test may be of several models or optimizers.
    varying = {key for each in settings for key in (*each["essentials"], *then) if _differs(each, then, key)}
    for key in sorted(key for key in {*then, *now} - varying if _must_agree(key)):
        if then.get(key) != now.get(key):
            raise UserError(
                f"scheduler.range_test={path} is of another {key.partition('.')[0]}: {key} is "
                f"{now.get(key)!r} here and {then.get(key)!r} there; run src/lr_range.py with the keys of "
                "this run"
            )
    # Several settings: the one with the values of this run, in whatever tells them apart.
    fitting = [
        each for each in settings if all(each["essentials"].get(key) == now.get(key) for key in varying)
    ]
    if not fitting:
        there = ", ".join(str(each["label"]) for each in settings)
        here = ", ".join(f"{key}={now.get(key)}" for key in sorted(varying))
        raise UserError(
            f"scheduler.range_test={path} has {there}, and none of them is this run's {here}: take one of "
            "these values, or run src/lr_range.py with the overrides of this run"
        )
    if fitting[0]["proposal"] is None:
        raise UserError(
            f"scheduler.range_test={path} proposes no bounds: {fitting[0].get('why_not')}; "
            f"run src/lr_range.py again with {fitting[0]['go_on']}"
        )
    bounds: Mapping[str, Any] = fitting[0]["proposal"]
    return bounds


def _must_agree(key: str) -> bool:
    """Network, source of the images and kind of optimizer; the rest may be tuned after the test."""
    node, _, leaf = key.partition(".")
    if node == "data":
        return leaf.partition(".")[0] not in COMMON_DATA_KEYS
    return node == "model" or key == "optimizer._target_"


def _is_rate(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


def _differs(setting: Mapping[str, Any], then: Mapping[str, Any], key: str) -> bool:
    return bool(setting["essentials"].get(key) != then.get(key))
