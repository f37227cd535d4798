"""Check that a run's folder from elsewhere sets only plain values and names only code from conf/."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from yaml import YAMLError, safe_load

from tempo.errors import UserError
from tempo.paths import PROJECT, conf_folders, data_root, is_group, option_files, root

_INTERPOLATION = "${"
"""Start of an OmegaConf interpolation, which can read the environment (`oc.env`) and create nodes."""
_LOGGER_WORDS = {
    "_target_",
    "project",
    "name",
    "experiment_name",
    "run_name",
    "offline",
    "group",
    "job_type",
    "artifacts",
}
"""Keys of a logger that do not decide where it writes or sends data."""
_NESTED_TORCH = re.compile(
    r"(torch\.(nn|optim|optim\.lr_scheduler)|torchvision\.transforms(\.v2)?)\.[A-Z]\w*"
)
"""Classes that only compute, as arguments of a class that conf/ names."""
_OPTION = re.compile(r"[\w-]+(/[\w-]+)*")

_typed: list[frozenset[str]] = []


def note_foreign(arguments: Iterable[str]) -> frozenset[str]:
    """Note that this process takes overrides from a folder; return the keys that the user typed."""
    _typed.append(frozenset(map(_key, arguments)))
    return _typed[-1]


def forget_foreign() -> None:
    """Begin anew in a process that starts one run after another."""
    _typed.clear()


def are_foreign() -> bool:
    """Whether overrides of this process come from a folder."""
    return bool(_typed)


def check_plain(where: str, values: Any) -> None:
    """Refuse interpolations in a resolved configuration, because Hydra would resolve them again.

    Raises:
        UserError: a string or a key contains `${`, at any depth.
    """
    for key, text in _texts(values, where):
        if _INTERPOLATION in text:
            raise UserError(
                f"{key}={text[:200]!r} has an interpolation, which could read secrets or run code; write the "
                "value itself in its place"
            )


def check_foreign_config(config: Mapping[str, Any]) -> None:
    """Refuse a configuration from a folder that could run foreign code; every reader must call it.

    Raises:
        UserError: the configuration has an interpolation, or a `_target_` that is neither named in conf/ at
            the same place, nor an optimizer or loss of torch, nor a part from torch within such a node.
    """
    check_plain("config", config)
    for where, node in _nodes_with_target(config, ()):
        target, group, key = str(node["_target_"]), where[0], ".".join((*where, "_target_"))
        only_computes = len(where) > 1 or group == "loss"
        if _NESTED_TORCH.fullmatch(target) if only_computes else _is_torch_optimizer(group, target):
            continue
        if not any(_names(path, where, node) for path in (*option_files(group), *option_files("experiment"))):
            raise UserError(
                f"config.{key}={target} is not named in conf/{group}/*.yaml, and a run's folder may not "
                "name other code; if you trust it, add a file there that names it, or set "
                f"{PROJECT}=<folder of the project> if that is where the run is from"
            )


def _is_torch_optimizer(group: str, target: str) -> bool:
    return group == "optimizer" and re.fullmatch(r"torch\.optim\.[A-Z]\w*", target) is not None


def _names(path: Path, where: tuple[str, ...], node: Mapping[str, Any]) -> bool:
    """Whether a file of conf/ has a node with the same `_target_` at the same place.

    Of Python and Hydra, which have functions that find or call any other, the whole node must be there.
    """
    target, text = str(node["_target_"]), path.read_text(encoding="utf-8")
    if not re.search(rf"_target_['\"]?: *['\"]?{re.escape(target)}['\"]?\s", f"{text}\n"):
        return False
    with contextlib.suppress(YAMLError):
        is_experiment = any(path.is_relative_to(folder / "experiment") for folder in conf_folders())
        for found in _at(safe_load(text), where if is_experiment else where[1:]):
            if isinstance(found, Mapping) and found.get("_target_") == target:
                package = target.partition(".")[0]
                return found == node or package not in {"hydra", *sys.stdlib_module_names}
    return False


def check_foreign_places(config: Mapping[str, Any]) -> None:
    """Refuse places where a resumed run would write or send data, unless the user typed them.

    Raises:
        UserError: a cache that conf/ does not name, a download into a new folder, or a logger's destination.
    """
    typed = _typed[-1] if _typed else frozenset()
    data, logger = config["data"], config.get("logger")
    data, logger = (node if isinstance(node, Mapping) else {} for node in (data, logger))
    places = {
        f"logger.{name}.{key}": value
        for name, node in logger.items()
        for key, value in (node if isinstance(node, Mapping) else {"": node}).items()
        if key not in _LOGGER_WORDS and value != f"sqlite:///{root('logs')}/mlflow.db"
    }
    if data.get("cache") not in (None, own_cache()):
        places["data.cache"] = data["cache"]
    images = Path(str(data.get("root", data_root()))).expanduser()
    if data.get("download") and images != Path(data_root()) and not images.is_dir():
        places["data.root"] = data["root"]
    for key, place in places.items():
        if not any(known == key or key.startswith(f"{known}.") for known in typed):
            raise UserError(
                f"{key}={str(place)[:200]!r} comes from the run's folder, which may not choose where to "
                f"write; if the run is yours, repeat the key after resume=: {key}={json.dumps(place)}"
            )


def without_foreign_places(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recorded configuration without the places where it would write, download or log."""
    data = dict(config["data"])
    if data.get("cache") is not None:
        data["cache"] = own_cache()
    if "download" in data and data.get("root") != data_root():
        data["download"] = False
    return {**config, "data": data, "logger": {}}


def own_cache() -> str:
    """Return the cache of decoded images that conf/ names."""
    return str(Path(data_root()) / "cache")


def foreign_overrides(
    overrides: Sequence[str],
    file: Path,
    config: Mapping[str, Any] | None = None,
    typed: frozenset[str] = frozenset(),
) -> list[str]:
    """Return the overrides recorded in a folder if each sets a key of the run to a plain value.

    `config` is the record's configuration; the message suggests its value instead of an interpolation. An
    override with an interpolation is left out if the user typed its key.

    Raises:
        UserError: a flag (one of Hydra's flags runs a pickle), a key of Hydra, a path instead of a group's
            option, an interpolation, or text that is not an override.
    """
    parser, kept = OverridesParser.create(), []
    for override in overrides:
        try:
            if override.startswith("-"):
                raise ValueError
            value = _value(parser.parse_overrides([override])[0])
        except (ValueError, HydraException, RecursionError):
            raise UserError(
                f"{file} has overrides with {override[:200]!r}, which no run records: the folder was changed "
                "or is not from tempo; start a new run without resume="
            ) from None
        # The parsed value is checked too: the grammar reads `$\{` as `${`.
        if not any(_INTERPOLATION in text for _, text in _texts([override, value], "")):
            kept.append(override)
        elif _key(override) not in typed:
            raise UserError(
                f"{file} has overrides with {override[:200]!r}, an interpolation, which could read secrets "
                f"or run code; if the run is yours, write the value itself in its place there: "
                f"{_plain_override(_key(override), config)}"
            )
    return kept


def _value(override: Override) -> Any:
    """Return the value of a parsed override; ValueError if tempo never records such an override."""
    group = override.key_or_group
    if re.split(r"[./]", group)[0] == "hydra" or override.package is not None or override.is_sweep_override():
        raise ValueError
    value = override.value()
    names_option = "/" in group or is_group(group)
    # Given a path, Hydra would read that file, including any callbacks in it.
    options = value if isinstance(value, list) else [value]
    for option in options if names_option else ():
        if isinstance(option, str) and _INTERPOLATION not in option and not _OPTION.fullmatch(option):
            raise ValueError
    return value


def _plain_override(key: str, config: Mapping[str, Any] | None) -> str:
    node: Any = config
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    if node is None or isinstance(node, (Mapping, list)):
        return f"{key}=<value>"
    return f"{key}={json.dumps(node, ensure_ascii=True)}"


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _texts(node: Any, where: str) -> Iterator[tuple[str, str]]:
    """Yield every string of a configuration, keys included, with its dotted key."""
    if isinstance(node, str):
        yield where, node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield where, str(key)
            yield from _texts(value, f"{where}.{key}" if where else str(key))
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _texts(value, f"{where}.{index}" if where else str(index))


def _at(node: Any, where: tuple[str, ...]) -> Iterator[Any]:
    """Yield the nodes at a place; where it goes through a list, those of each entry."""
    if isinstance(node, list) and where:
        for entry in node:
            yield from _at(entry, where[1:])
    elif not where:
        yield node
    elif isinstance(node, Mapping) and where[0] in node:
        yield from _at(node[where[0]], where[1:])


def _nodes_with_target(node: Any, where: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the place of each node with a `_target_`, and the node."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield where, node
        for key, value in node.items():
            yield from _nodes_with_target(value, (*where, str(key)))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _nodes_with_target(value, (*where, str(index)))
