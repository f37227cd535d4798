"""Which runs are the same setting with another seed, and what tells the settings apart."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from tempo.report.load_runs import Run, override_key
from tempo.report.number_format import ABSENT, canonical, human, order, short_keys

FOLDER = "folder"
"""Stands for the folder that the user named: tells apart what has one configuration, such as two commits."""
NOT_A_SETTING = frozenset({"seed", "name", "resume", "preview"})
NOT_A_SETTING_BELOW = ("paper.", "logger.", "hydra.")
TELLING_GROUPS = ("experiment", "data", "model", "optimizer", "scheduler")
"""Groups whose option says more than the keys that it sets: `optimizer=nesterov`, SGD with three of them."""


@dataclass(frozen=True, eq=False)
class Setting:
    """The runs that differ in nothing but the seed. `values` belong to the keys of its table."""

    label: str
    values: tuple[Any, ...]
    runs: tuple[Run, ...]

    def with_status(self, *statuses: str) -> tuple[Run, ...]:
        """Its runs that ended so."""
        return tuple(run for run in self.runs if run.record.status in statuses)

    @property
    def completed(self) -> tuple[Run, ...]:
        """Its runs that came to the end: what means are taken over."""
        return self.with_status("completed")

    @property
    def smoke(self) -> bool:
        """Whether any run is a smoke run."""
        return any(run.smoke for run in self.runs)


def group(runs: Sequence[Run]) -> tuple[tuple[str, ...], tuple[Setting, ...]]:
    """The keys that tell settings apart, and the settings in the order of their values."""
    keys = distinguishing_keys(runs)
    names = short_keys(keys)
    settings = []
    for members in _parts(runs, keys):
        values = tuple(value_of(members[0], key) for key in keys)
        label = ", ".join(f"{name}={human(value)}" for name, value in zip(names, values, strict=True))
        if not keys:
            label = members[0].record.name or "all runs"
        members.sort(key=lambda run: (run.record.seed, str(run.folder)))
        settings.append(Setting(label, values, tuple(members)))
    settings.sort(key=lambda each: tuple(order(value) for value in each.values))
    return keys, tuple(settings)


def distinguishing_keys(runs: Sequence[Run]) -> tuple[str, ...]:
    """The swept keys, and as many more as it takes until a setting holds one configuration only.

    `seed` is never among them: it is the axis that means are taken over. A key that follows another one (the
    schedule's `lr` that follows the optimizer's) is left out, because it splits nothing that is not split.
    """
    swept = dict.fromkeys(key for run in runs if run.sweep for key in run.sweep.keys if key != "seed")
    keys = [key for key in swept if _varies(runs, key)]
    parts = _parts(runs, keys)
    for key in _candidates(runs):
        if key not in keys and any(_varies(part, key) for part in parts):
            keys.append(key)
            parts = _parts(runs, keys)
    if any(len({run.given for run in part}) > 1 and _repeats_a_seed(part) for part in parts):
        keys.append(FOLDER)
    return tuple(keys)


def differing(runs: Sequence[Run]) -> list[str]:
    """Every dotted key of the configurations that varies, swept or not."""
    keys = dict.fromkeys(key for run in runs for key in run.flat)
    return [key for key in keys if _varies(runs, key)]


def shared(runs: Sequence[Run]) -> dict[str, Any]:
    """What all configurations have in common, by dotted key."""
    first = runs[0].flat if runs else {}
    different = set(differing(runs))
    return {key: value for key, value in first.items() if key not in different}


def value_of(run: Run, key: str) -> Any:
    """The value of a dotted key; the option chosen where the key is a group such as `model`."""
    if key == FOLDER:
        return run.given.name or str(run.given)
    if key in run.flat:
        value = _without_seed(run.flat[key], run.record.seed)
        return value.rpartition(".")[2] if key.endswith("_target_") and isinstance(value, str) else value
    for each in reversed(run.record.overrides):
        if override_key(each) == key:
            return _parsed(each.partition("=")[2])
    if run.record.choices.get(key):
        return run.record.choices[key]
    target = run.flat.get(f"{key}._target_")
    return str(target).rpartition(".")[2] if target else ABSENT


def distinct(values: Iterable[Any]) -> list[Any]:
    """Without repetition, in order of size."""
    return sorted({canonical(each): each for each in values}.values(), key=order)


def _without_seed(value: Any, seed: int) -> Any:
    """A path that names the run's own seed, as `model.run` may, follows the seed and is no setting."""
    return re.sub(rf"\bseed={seed}\b", "seed=<seed>", value) if isinstance(value, str) else value


def _parsed(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if isinstance(value, str):  # YAML 1.1 takes 1e-4 for a word
        try:
            return float(value)
        except ValueError:
            return value
    return value if isinstance(value, (int, float, list)) or value is None else text


def _candidates(runs: Sequence[Run]) -> list[str]:
    """Varying keys, the telling ones first: the scale, groups and classes, what was overridden, the rest."""
    named = {override_key(each) for run in runs for each in run.record.overrides}
    keys = [key for key in differing(runs) if key not in NOT_A_SETTING and not _is_no_setting(key)]
    rank: Callable[[str], int] = lambda key: (  # noqa: E731
        0 if key == "scale" else 2 if key.endswith("_target_") else 3 if key in named else 4
    )
    ordered = sorted(keys, key=rank)
    at = int("scale" in ordered)
    return [*ordered[:at], *_telling_groups(runs, keys), *ordered[at:]]


def _telling_groups(runs: Sequence[Run], keys: Sequence[str]) -> list[str]:
    """Groups whose option varies, but not between runs of one configuration."""
    found = []
    for group in TELLING_GROUPS:
        if not all(group in run.record.choices for run in runs):
            continue
        options: dict[Any, set[Any]] = {}
        for run in runs:
            configuration = tuple(_identity(run, key) for key in keys)
            options.setdefault(configuration, set()).add(_identity(run, group))
        if all(len(each) == 1 for each in options.values()):
            found.append(group)
    return found


def _is_no_setting(key: str) -> bool:
    return key.startswith(NOT_A_SETTING_BELOW) or key.endswith(".root")


def _identity(run: Run, key: str) -> Any:
    if key == FOLDER:
        return run.given
    if key in run.flat:
        return canonical(_without_seed(run.flat[key], run.record.seed))
    return canonical(value_of(run, key))


def _varies(runs: Sequence[Run], key: str) -> bool:
    first = _identity(runs[0], key) if runs else None
    return any(_identity(run, key) != first for run in runs)


def _parts(runs: Sequence[Run], keys: Sequence[str]) -> list[list[Run]]:
    parts: dict[Any, list[Run]] = {}
    for run in runs:
        parts.setdefault(tuple(_identity(run, key) for key in keys), []).append(run)
    return list(parts.values())


def _repeats_a_seed(runs: Sequence[Run]) -> bool:
    return len({run.record.seed for run in runs}) < len(runs)
