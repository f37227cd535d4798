"""Compose configurations for reading: a record's, completed with newer keys, and an experiment's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import CompactHydraException
from omegaconf.errors import OmegaConfBaseException

from tempo.config.check import select
from tempo.config.resolve_interpolations import chosen_options, composed
from tempo.config.schema import SECTIONS
from tempo.errors import UserError
from tempo.paths import CONF, LOCAL, conf_folders, is_group, register_resolvers
from tempo.record.foreign_folder import check_foreign_config, foreign_overrides, without_foreign_places
from tempo.record.newer_keys import NEWER_KEYS
from tempo.record.run_json import FILE_NAME, RunRecord

_REFUSED = (UserError, CompactHydraException, OmegaConfBaseException)
"""Errors of a configuration that can no longer be composed."""
_ALWAYS = ("data", "model", "optimizer", "scheduler", "trainer", "checkpoint", "data.augment")


def command_config(record: RunRecord, folder: Path) -> dict[str, Any] | None:
    """Compose a record's overrides as a script would today; return None if that no longer works.

    Raises:
        UserError: the overrides include one that tempo never records.
    """
    overrides = foreign_overrides(record.overrides, folder / FILE_NAME, record.config)
    kept = [override for override in overrides if not override.startswith("resume=")]
    return _compose(Path(record.script).stem, kept)


def completed(record: RunRecord, folder: Path) -> dict[str, Any]:
    """Return a record's configuration, with today's values for keys that it does not have.

    Raises:
        UserError: an override that tempo never records, a missing section that every version had, or a
            `_target_` that conf/ does not name, in the recorded or the newly composed configuration.
    """
    for part in _ALWAYS:
        select(record.config, part)
    today = command_config(record, folder)
    if today is None:  # an option was renamed: compose the options that still exist
        known = [
            f"{group}={option}"
            for group, option in record.choices.items()
            if any((folder / group / f"{option}.yaml").exists() for folder in conf_folders())
        ]
        today = _compose("train", foreign_overrides(known, folder / FILE_NAME)) or {}
    config = _with_missing_keys(_with_newer_keys(record.config), today)
    check_foreign_config(config)
    return without_foreign_places(config)


def experiment_config(
    experiment: str, overrides: Sequence[str] = ()
) -> tuple[dict[str, Any], dict[str, str]] | None:
    """Compose an experiment of conf/, and return its plain values and the option of each group.

    Return None if it cannot be composed.
    """
    register_resolvers()
    with hydra_on_conf(), contextlib.suppress(*_REFUSED):
        own = [f"experiment={experiment}", *overrides, *_without_local()]
        made = compose("train", own, return_hydra_config=True)
        return composed(made), chosen_options(made.hydra)
    return None


def with_data_root(config: Mapping[str, Any], record: RunRecord, root: str) -> dict[str, Any]:
    """Return a `completed` configuration that reads its data from a folder that the user has named."""
    # Only if the user names the folder does the recorded choice to download apply.
    download = {key: value for key, value in record.config["data"].items() if key == "download"}
    place = str(Path(root).expanduser().absolute())
    return {**config, "data": {**config["data"], **download, "root": place}}


def _with_newer_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record's configuration with newer keys of the root and its sections, at their old meaning."""
    result = dict(config)
    for dotted, value in NEWER_KEYS.items():
        name, _, key = dotted.partition(".")
        if name in SECTIONS and isinstance(node := result.get(name), Mapping):
            result[name] = {key: value, **node}
        elif not key:
            result.setdefault(name, value)
    return result


def _with_missing_keys(config: Mapping[str, Any], today: Mapping[str, Any]) -> dict[str, Any]:
    result = {**config, **{key: value for key, value in today.items() if key not in config}}
    for key, node in config.items():
        other = today.get(key)
        if (
            isinstance(node, Mapping)
            and isinstance(other, Mapping)
            # Another target has other keys: its defaults mean nothing to this one.
            and node.get("_target_") == other.get("_target_")
        ):
            result[key] = _with_missing_keys(node, other)
    return result


def _compose(name: str, overrides: Sequence[str]) -> dict[str, Any] | None:
    with hydra_on_conf(), contextlib.suppress(*_REFUSED):
        own = [*overrides, *_without_local()]
        return composed(compose(name, overrides=own, return_hydra_config=True))
    return None


def _without_local() -> list[str]:
    """Return the override that leaves out this machine's own settings: a record comes from any machine."""
    return [f"~{LOCAL}"] if is_group(LOCAL) else []


@contextlib.contextmanager
def hydra_on_conf() -> Iterator[None]:
    """Initialize Hydra on conf/, even if a script has initialized it already."""
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = before
