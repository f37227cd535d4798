"""Group runs into settings (configurations apart from the seed) and find the keys that distinguish them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from tempo.report.load_runs import Run, override_key
from tempo.report.number_format import ABSENT, canonical, human, order, short_keys

FOLDER = "folder"
"""Key for the folder that the user named; it distinguishes runs of one configuration, e.g. of two commits."""
REPEATS = frozenset({"seed", "data.fold"})
NOT_A_SETTING = frozenset({"seed", "data.fold", "name", "tags", "resume", "preview", "trainer.wrong_images"})
NOT_A_SETTING_BELOW = ("paper.", "logger.", "hydra.")
TELLING_GROUPS = ("experiment", "data", "model", "optimizer", "scheduler")
"""Groups whose option is clearer than the keys it sets: `optimizer=nesterov` sets three keys of SGD."""


@dataclass(frozen=True, eq=False)
class Setting:
    """Runs that differ only in seed and fold; `values` belong to the keys that distinguish settings.

    `texts` are the values for a reader; no two settings have the same.
    """

    label: str
    values: tuple[Any, ...]
    runs: tuple[Run, ...]
    texts: tuple[str, ...] = ()

    def with_status(self, *statuses: str) -> tuple[Run, ...]:
        """Return the runs with one of these statuses."""
        return tuple(run for run in self.runs if run.record.status in statuses)

    @property
    def completed(self) -> tuple[Run, ...]:
        """Completed runs, over which means are taken."""
        return self.with_status("completed")

    @property
    def smoke(self) -> bool:
        """Whether any run is a smoke run."""
        return any(run.smoke for run in self.runs)


def group(runs: Sequence[Run]) -> tuple[tuple[str, ...], tuple[Setting, ...]]:
    """Return the keys that distinguish settings, and the settings in the order of their values."""
    keys = distinguishing_keys(runs)
    names = short_keys(keys)
    settings = []
    parts = _parts(runs, keys)
    columns = [_texts([members[0] for members in parts], key) for key in keys]
    for at, members in enumerate(parts):
        values = tuple(value_of(members[0], key) for key in keys)
        texts = tuple(column[at] for column in columns)
        label = ", ".join(f"{name}={text}" for name, text in zip(names, texts, strict=True))
        if not keys:
            label = members[0].record.name or "all runs"
        members.sort(key=lambda run: (run.repeat, str(run.folder)))
        settings.append(Setting(label, values, tuple(members), texts))
    settings.sort(key=lambda setting: tuple(order(value) for value in setting.values))
    return keys, tuple(settings)


def _texts(runs: Sequence[Run], key: str) -> list[str]:
    """Return the value of a key in each run, in full where two values would read the same.

    Examples are 0.1 and 0.10000001, and classes of one name in two packages.
    """
    short = [human(value_of(run, key)) for run in runs]
    meanings: dict[str, set[Any]] = {}
    for run, text in zip(runs, short, strict=True):
        meanings.setdefault(text, set()).add(_identity(run, key))
    return [
        text if len(meanings[text]) == 1 else _in_full(run, key)
        for run, text in zip(runs, short, strict=True)
    ]


def _in_full(run: Run, key: str) -> str:
    if key == FOLDER:
        return str(run.given)
    value = run.flat.get(key, value_of(run, key))
    return value if key.endswith("_target_") else repr(value)


def distinguishing_keys(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return the swept keys, and as many others as needed until each setting has one configuration.

    `seed` and `data.fold` are never among them, as means are taken over them. A key that follows another one
    (the schedule's `lr` follows the optimizer's) is left out, because it does not split a setting further.
    """
    swept = dict.fromkeys(key for run in runs if run.sweep for key in run.sweep.keys if key not in REPEATS)
    keys = [key for key in swept if _varies(runs, key)]
    parts = _parts(runs, keys)
    for key in _candidates(runs):
        if key not in keys and any(_varies(part, key) for part in parts):
            keys.append(key)
            parts = _parts(runs, keys)
    if any(len({run.given for run in part}) > 1 and _has_repeats(part) for part in parts):
        keys.append(FOLDER)
    return tuple(keys)


def differing(runs: Sequence[Run]) -> list[str]:
    """Return every dotted key of the configurations that varies, swept or not."""
    keys = dict.fromkeys(key for run in runs for key in run.flat)
    return [key for key in keys if _varies(runs, key)]


def shared(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the keys and values that all configurations have in common."""
    different = set(differing(runs))
    first = runs[0].flat if runs else {}
    return {key: value for key, value in first.items() if key not in different}


def value_of(run: Run, key: str) -> Any:
    """Return the value of a dotted key, or the option chosen for a group such as `model`."""
    if key == FOLDER:
        return run.given.name or str(run.given)
    if key in run.flat:
        value = _without_seed(run.flat[key], run.record.seed)
        return value.rpartition(".")[2] if key.endswith("_target_") and isinstance(value, str) else value
    for override in reversed(run.record.overrides):
        if override_key(override) == key:
            return _parsed(override.partition("=")[2])
    if run.record.choices.get(key):
        return run.record.choices[key]
    target = run.flat.get(f"{key}._target_")
    return str(target).rpartition(".")[2] if target else ABSENT


def distinct(values: Iterable[Any]) -> list[Any]:
    """Return the values without repetition, in order."""
    return sorted({canonical(value): value for value in values}.values(), key=order)


def _without_seed(value: Any, seed: int) -> Any:
    """Replace the run's own seed in a path such as `model.run`, which follows the seed."""
    return re.sub(rf"\bseed={seed}\b", "seed=<seed>", value) if isinstance(value, str) else value


def _parsed(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if isinstance(value, str):  # YAML 1.1 reads 1e-4 as text
        try:
            return float(value)
        except ValueError:
            return value
    return value if isinstance(value, (int, float, list)) or value is None else text


def _candidates(runs: Sequence[Run]) -> list[str]:
    """Return the varying keys, the clearest first: scale, groups, classes, overridden keys, others."""
    overridden = {override_key(override) for run in runs for override in run.record.overrides}
    keys = [
        key
        for key in differing(runs)
        if key not in NOT_A_SETTING and not key.startswith(NOT_A_SETTING_BELOW) and not key.endswith(".root")
    ]
    scale = [key for key in keys if key == "scale"]
    classes = [key for key in keys if key.endswith("_target_")]
    named = [key for key in keys if key in overridden]
    return list(dict.fromkeys([*scale, *_telling_groups(runs, keys), *classes, *named, *keys]))


def _telling_groups(runs: Sequence[Run], keys: Sequence[str]) -> list[str]:
    """Return the groups whose option varies, but not among runs of one configuration."""
    parts = _parts(runs, keys)
    return [
        group
        for group in TELLING_GROUPS
        if all(group in run.record.choices for run in runs)
        and not any(_varies(part, group) for part in parts)
    ]


def _identity(run: Run, key: str) -> Any:
    if key == FOLDER:
        return run.given
    if key in run.flat:
        return canonical(_without_seed(run.flat[key], run.record.seed))
    return canonical(value_of(run, key))


def _varies(runs: Sequence[Run], key: str) -> bool:
    return len({_identity(run, key) for run in runs}) > 1


def _parts(runs: Sequence[Run], keys: Sequence[str]) -> list[list[Run]]:
    parts: dict[Any, list[Run]] = {}
    for run in runs:
        parts.setdefault(tuple(_identity(run, key) for key in keys), []).append(run)
    return list(parts.values())


def _has_repeats(runs: Sequence[Run]) -> bool:
    return len({run.repeat for run in runs}) < len(runs)
