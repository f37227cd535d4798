"""The configuration of a record in today's checkout, which may have keys that the record does not know."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import CompactHydraException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from tempo.config.check import select
from tempo.config.resolve import composed
from tempo.errors import UserError
from tempo.paths import CONF
from tempo.record.foreign_folder import check_foreign_config, foreign_overrides, without_foreign_places
from tempo.record.run_json import FILE_NAME, RunRecord

_ALWAYS = ("data", "model", "optimizer", "scheduler", "trainer", "checkpoint", "data.augment")


def recorded_overrides(overrides: list[str], folder: Path) -> list[str]:
    """A record's overrides, which may come from a stranger: keys of the run itself and nothing else.

    Raises:
        UserError: a flag (Hydra has one that runs a pickle), a key of Hydra's own, or what is no override.
    """
    parser = OverridesParser.create()
    for each in overrides:
        try:
            if each.startswith("-"):
                raise ValueError
            parsed = parser.parse_overrides([each])[0]
            if re.split(r"[./]", parsed.key_or_group)[0] == "hydra" or parsed.package is not None:
                raise ValueError
        except (ValueError, OverrideParseException, RecursionError):
            raise UserError(
                f"{folder / FILE_NAME} has overrides with {each[:200]!r}, which no run records: the folder "
                "was changed or is not of tempo; start a new run without resume="
            ) from None
    return overrides


def command_config(record: RunRecord, folder: Path) -> dict[str, Any] | None:
    """What the overrides of a record make today; None where they make nothing any more.

    Raises:
        UserError: overrides that no run records.
    """
    overrides = foreign_overrides(record.overrides, folder / FILE_NAME, record.config)
    kept = [override for override in overrides if not override.startswith("resume=")]
    return _compose(Path(record.script).stem, kept)


def completed(record: RunRecord, folder: Path) -> dict[str, Any]:
    """A record's configuration, with the values that keys added since then have today.

    Raises:
        UserError: overrides that no run records, a part is missing that every version had, or a `_target_`
            that conf/ does not name, be it in the configuration or in what the overrides make of it.
    """
    for part in _ALWAYS:
        select(record.config, part)
    today = command_config(record, folder)
    if today is None:  # an option has another name by now: the groups that are left say enough
        known = [
            f"{g}={option}" for g, option in record.choices.items() if (CONF / g / f"{option}.yaml").exists()
        ]
        today = _compose("train", foreign_overrides(known, folder / FILE_NAME)) or {}
    config = _filled(record.config, today)
    check_foreign_config(config)
    return without_foreign_places(config)


def _filled(config: Mapping[str, Any], today: Mapping[str, Any]) -> dict[str, Any]:
    result = {**config, **{key: value for key, value in today.items() if key not in config}}
    for key, node in config.items():
        other = today.get(key)
        if (
            isinstance(node, Mapping)
            and isinstance(other, Mapping)
            and node.get("_target_") == other.get("_target_")
        ):
            result[key] = _filled(node, other)
    return result


def _compose(name: str, overrides: Sequence[str]) -> dict[str, Any] | None:
    with _own_hydra():
        try:
            return composed(compose(name, overrides=list(overrides), return_hydra_config=True))
        except (UserError, CompactHydraException, OmegaConfBaseException):
            return None


@contextmanager
def _own_hydra() -> Iterator[None]:
    """Hydra initialised on conf/, whether or not a script has initialised it."""
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = before
