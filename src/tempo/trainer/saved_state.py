"""What a checkpoint must hold for a run to go on from it: a stranger's may hold anything."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from tempo.config.signature import fits
from tempo.errors import UserError

# Of our own entries, the type of each; a callback that the run does not have may be missing.
_TYPES = {
    "global_step": "int",
    "epoch": "int",
    "evaluations": "int",
    "config_hash": "str",
    "optimizer_states": "list",
    "window.loss": "list[float]",
    "window.accuracy": "list[float]",
    "callbacks.Recorder.train_seconds": "float",
    "callbacks.Recorder.compile_seconds": "float",
    "callbacks.Recorder.evaluations_compiling": "int",
    "callbacks.Recorder.validated_step": "int",
    "callbacks.Recorder.divergence.smoothed": "float | None",
    "callbacks.Recorder.divergence.best": "float | None",
    "callbacks.Recorder.metrics": "dict",
    "callbacks.Checkpoints.best": "list[tuple[float, int]]",
    "callbacks.Checkpoints.best_metrics": "dict",
    "callbacks.Checkpoints.saved_step": "int",
}
_METRICS = ("callbacks.Recorder.metrics", "callbacks.Checkpoints.best_metrics")
_METRIC = re.compile(
    r"callbacks\.(Recorder\.metrics\.(train|val|test)|Checkpoints\.best_metrics)\.(loss|accuracy)"
)
_STEPS = "loops.fit_loop.epoch_loop.manual_optimization.optim_step_progress.total.completed"
"""Where Lightning counts the optimizer steps that `global_step` is."""
_MOST_NODES, _DEEPEST = 10_000, 50
_ABSENT = object()


def check_state(content: Mapping[str, Any], path: Path) -> None:
    """UserError where an entry that a resumed run reads is missing or of another type.

    What only Lightning, the network or the optimizer can tell is found when they take their part.
    """
    for key, kind in _TYPES.items():
        value = _at(content, key)
        if value is _ABSENT or not fits(value, kind):
            raise _wrong(path, key, value)
    for key in _METRICS:
        for where, value in _leaves(_at(content, key), key):
            if not _METRIC.fullmatch(where) or not isinstance(value, (int, float)):
                raise _wrong(path, where, value)
    _check_counts(content, path)
    for where, value in _leaves(content["callbacks"], "callbacks"):
        if not _is_of_a_callback(where, value):
            raise _wrong(path, where, value)


def _check_counts(content: Mapping[str, Any], path: Path) -> None:
    counts = dict(_leaves(content.get("loops"), "loops"))
    for where, value in counts.items():
        if not isinstance(value, int) or value < 0:
            raise _wrong(path, where, value)
    if counts.get(_STEPS, content["global_step"]) != content["global_step"]:
        raise _wrong(path, _STEPS, counts[_STEPS])


def _is_of_a_callback(where: str, value: Any) -> bool:
    """What our callbacks and Lightning's have in common, and what is known of two of them."""
    if isinstance(value, torch.Tensor):
        return value.numel() == 1
    if where.endswith(".best_score"):
        return False
    return isinstance(value, float) if ".joules." in where else where != "callbacks"


def _wrong(path: Path, where: str, value: Any) -> UserError:
    plain = value is None or isinstance(value, (bool, int, float, str))  # others may be long to print
    said = "missing" if value is _ABSENT else repr(value)[:80] if plain else f"a {type(value).__name__}"
    return UserError(f"{path} is no state of a run: its {where} is {said}")


def _at(content: Any, key: str) -> Any:
    for part in key.split("."):
        content = content.get(part, _ABSENT) if isinstance(content, Mapping) else _ABSENT
    return content


def _leaves(node: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Names and values below a node; more than a run has, or deeper, are cut off as one that is wrong."""
    waiting, seen = [(where, node)], 0
    while waiting:
        name, value = waiting.pop()
        seen += 1
        if seen > _MOST_NODES or name.count(".") > _DEEPEST:
            yield where, "nested without an end"
            return
        if isinstance(value, Mapping):
            waiting += [(f"{name}.{key}", each) for key, each in value.items()]
        else:
            yield name, value
