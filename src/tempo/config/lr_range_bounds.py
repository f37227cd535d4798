"""Read `lr_range.json`, the result of an LR range test, and fill in a schedule's `auto` bounds from it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tempo.config.schema import COMMON_DATA_KEYS
from tempo.errors import UserError
from tempo.record.newer_keys import without_newer_keys
from tempo.record.read_file import read_text
from tempo.record.run_json import flatten

FILE_NAME = "lr_range.json"
KIND = "lr_range"
SCHEMA_VERSION = 1
AUTO = "auto"
_FOLDER = "<folder of src/lr_range.py>"
BOUNDS = ("min_lr", "max_lr")


def essentials(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a range test depends on, by dotted key: model, data set, optimizer and batch size.

    The learning rate itself is left out.
    """
    config = without_newer_keys(config)
    data = config["data"]
    # A data set that can be downloaded is the same in any folder; otherwise the folder chooses the images.
    places = ("root", "cache", "download") if "download" in data else ("cache",)
    nodes = {
        "model": config["model"],
        "data": {key: value for key, value in data.items() if key not in places},
        "optimizer": {key: value for key, value in config["optimizer"].items() if key != "lr"},
    }
    return flatten(nodes)


def with_bounds(config: Mapping[str, Any], min_lr_is_default: bool) -> dict[str, Any]:
    """Replace `scheduler.max_lr=auto` and `scheduler.min_lr=auto` with the numbers of a range test.

    `min_lr_is_default`: the user has not set scheduler.min_lr, so it follows an `auto` max_lr.

    Raises:
        UserError: the file is missing, damaged or without a proposal, belongs to another model, data set or
            optimizer, or is named without `auto`.
    """
    schedule = config.get("scheduler")
    if not isinstance(schedule, Mapping):
        return dict(config)
    if AUTO not in (schedule.get("max_lr"), schedule.get("min_lr")):
        if schedule.get("range_test"):
            raise UserError(
                f"scheduler.range_test={schedule['range_test']} is only read for scheduler.max_lr=auto; set "
                "scheduler.max_lr=auto, or scheduler.range_test=null"
            )
        return dict(config)
    if not schedule.get("range_test"):
        raise UserError(
            "scheduler.max_lr=auto takes its value from a range test; name its folder with "
            f"scheduler.range_test={_FOLDER}"
        )
    if not isinstance(schedule["range_test"], str):
        raise UserError(
            f"scheduler.range_test={schedule['range_test']!r} is not text; set scheduler.range_test={_FOLDER}"
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
        values = json.loads(read_text(path))
        if values["kind"] != KIND or values["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"kind {values['kind']!r}, schema_version {values['schema_version']!r}")
        if not isinstance(values["settings"], list) or not values["settings"]:
            raise ValueError("no settings")
        for setting in values["settings"]:
            if (
                not isinstance(setting["essentials"], dict)
                or not {"label", "proposal", "go_on"} <= setting.keys()
            ):
                raise ValueError("a setting lacks its essentials or its proposal")
            proposal = setting["proposal"]
            if proposal is not None and not all(_is_rate(proposal[key]) for key in BOUNDS):
                raise ValueError("a proposal has bounds that are not numbers above 0")
        assert isinstance(values, dict)
        return values
    except OSError as error:
        raise UserError(
            f"scheduler.range_test={path}: {error.strerror}; run src/lr_range.py and set "
            f"scheduler.range_test={_FOLDER}"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"scheduler.range_test={path} is not the result of a range test ({error}); run "
            f"src/lr_range.py again and set scheduler.range_test={_FOLDER}"
        ) from None


def _proposal(test: Mapping[str, Any], config: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """Return the bounds of the setting that fits this configuration."""
    now, settings = essentials(config), test["settings"]
    then = settings[0]["essentials"]
    # A test may cover several models or optimizers: the keys in which its settings differ select one.
    varying = {
        key
        for setting in settings
        for key in (*setting["essentials"], *then)
        if setting["essentials"].get(key) != then.get(key)
    }
    for key in sorted(key for key in {*then, *now} - varying if _must_agree(key)):
        if then.get(key) != now.get(key):
            raise UserError(
                f"scheduler.range_test={path} belongs to another {key.partition('.')[0]}: {key} is "
                f"{now.get(key)!r} here and {then.get(key)!r} there; run src/lr_range.py with the keys of "
                "this run"
            )
    fitting = [
        setting
        for setting in settings
        if all(setting["essentials"].get(key) == now.get(key) for key in varying)
    ]
    if not fitting:
        there = ", ".join(str(setting["label"]) for setting in settings)
        here = ", ".join(f"{key}={now.get(key)}" for key in sorted(varying))
        raise UserError(
            f"scheduler.range_test={path} has {there}, and none of them is this run's {here}; set one of "
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
    """Whether a key must match the range test: it sets the network, the data set or the kind of optimizer."""
    node, _, leaf = key.partition(".")
    if node == "data":
        return leaf.partition(".")[0] not in COMMON_DATA_KEYS
    return node == "model" or key == "optimizer._target_"


def _is_rate(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
