"""One-line messages for mistakes in the command, with Hydra's reason or the nearest valid name."""

from __future__ import annotations

import difflib
import re
import shlex
import sys
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tempo.config.keys_elsewhere import key_here, option_here
from tempo.errors import UserError, nearest
from tempo.optimizer.knobs import our_name_for
from tempo.paths import CONF, conf_folders, is_group

SEARCH_KEYS = (
    *("n_trials", "sampler", "pruner", "startup_trials", "storage", "study_name", "max_failures", "batch"),
)
"""Keys of `hydra.sweeper` that may be written without that prefix: no run has keys with these names."""

ONE_RUN = ("evaluate", "reproduce", "predict", "export")
"""Scripts that take one run and cannot be swept."""
NO_SWEEP = (*ONE_RUN, "tune", "scaling")
"""Scripts that refuse -m themselves, with a reason of their own."""
MOST_NAMES = 12
"""Largest number of names in one message."""
# Messages of Hydra's override parser, which do not help a user.
_GRAMMAR = re.compile(r"mismatched input|NoViableAlt|no viable|extraneous|^missing |^token|^Error parsing")

_FILES = re.compile(r"file://([^,\]'\"]+)")


def one_line(error: Exception, config_name: str = "train") -> str:
    """Return the message for a mistake in the command, with the nearest valid name if one is close."""
    text = str(error)
    if isinstance(error, UserError):
        return text
    if found := re.match(r"UserError raised while resolving interpolation: (.*)", text):
        return found[1]
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override, text.splitlines()[0])
    if found := re.match(r"(?:Ambiguous value for argument|Sweep parameters) '(.*)'", text):
        return _several_values(found[1], config_name)
    if found := re.search(r"Missing mandatory value: (\S+)", text):
        return f"{found[1]} has no value; set {found[1]}=<value>"
    if found := re.match(r"In '[^']*': Could not find '([^']+)'", text):
        return _unknown_option(found[1])
    if found := re.match(r"Multiple values for (\S+)\.", text):
        option = _value_given(found[1]) or "<option>"
        return f"{found[1]} is chosen twice; set {found[1]}={option} once, without +"
    if found := re.match(r"Could not append to config. An item is already at '(.*?)'", text):
        return f"there is an item already at '{found[1]}'; set {found[1]}={_value_given(found[1])} without +"
    if isinstance(error.__cause__, OmegaConfBaseException):
        text += f" {error.__cause__}"
    if (found := re.match(r"Could not override '([^']*)'", text)) and re.search(
        r"is not in struct|No match|not in '", text
    ):
        within = re.search(r"full_key: (\S+)", text)  # `model={a: 1}` is about model.a
        key = within[1] if within and within[1].startswith(f"{found[1]}.") else found[1]
        return _unknown_key(key, config_name)
    return _with_remedy(text)


def before_task(error: Exception) -> str:
    """Return the line for an error of any type that Hydra raises before a task begins."""
    if isinstance(error, RecursionError):
        return (
            "the configuration is recursive: a defaults list leads back to its own file, or brackets are "
            "nested too deeply; check the file that you added or changed"
        )
    reason = _joined(str(error.__cause__ or error)).rstrip(".") or "Hydra rejected the command"
    return f"{reason} ({type(error).__name__}); --help shows the options, HYDRA_FULL_ERROR=1 the traceback"


def options_of(group: str) -> list[str]:
    """Return the options of `conf/<group>` and of folders that the command names, subfolders included."""
    bases = [folder / group for folder in (*conf_folders(), *_folders_given())]
    files = {path.relative_to(base).with_suffix("") for base in bases for path in base.rglob("*.yaml")}
    return sorted(path.as_posix() for path in files)


def _folders_given() -> list[Path]:
    """Return the folders of `--config-dir` and `hydra.searchpath`."""
    given = get_args_parser().parse_known_args(sys.argv[1:])[0].config_dir
    paths = [
        path for word in sys.argv if word.startswith("hydra.searchpath=") for path in _FILES.findall(word)
    ]
    return [Path(path) for path in [*([given] if given else []), *paths]]


def listed(names: list[str]) -> str:
    """Return the first names and the number of remaining ones."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _several_values(override: str, config_name: str) -> str:
    key, _, values = override.partition("=")
    if config_name in ONE_RUN:
        return f"{override} has several values; give one"
    if "/" in values:
        quote = shlex.quote(f'{key}="{values}"')
        return f"{override} has several values; if it is one path, write {quote}, or add -m to run each"
    as_list = f", or write {key}=[{values}] for a list" if _is_list(key, config_name) else ""
    return f"{override} has several values; add -m to run each of them{as_list}"


def _unreadable(override: str, reason: str) -> str:
    key, equals, value = override.partition("=")
    if not equals or not key:
        return f"{override!r} is not an override; write it as key=value, or leave it out"
    missing = "".join(
        closing * (value.count(opening) - value.count(closing)) for opening, closing in ("{}", "[]")
    )
    if missing:
        return f"{override} cannot be read; close its brackets, {shlex.quote(override + missing)}"
    if value != value.rstrip(","):
        return f"{override} cannot be read; end it without a comma, {override.rstrip(',')}"
    if value.startswith("="):
        return f"{override} cannot be read; write one =, {key}={value.lstrip('=')}"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    in_quotes = shlex.quote(f'{key}="{escaped}"')
    why = "" if _GRAMMAR.search(reason) else f" ({reason})"
    return f"{override} cannot be read{why}; put it in quotes, {in_quotes}, or give another value"


def _with_remedy(text: str) -> str:
    """Return Hydra's message with the key it concerns and a remedy."""
    reason = _joined(text).rstrip(".")
    if "use +" in reason or "remove + prefix" in reason:
        return reason
    if re.match(r"Error merging override|Could not delete", reason):
        return f"{reason}; leave it out, or give another value"
    if (where := re.search(r"full_key: (\S+)", text)) and where[1] not in reason:
        return f"{where[1]}: {reason}; leave it out, or give it another value"
    return f"{reason}; --help shows the options"


def _joined(text: str) -> str:
    """Join the text into one line, without OmegaConf's notes on types."""
    return " ".join(re.sub(r"(?m)^\s*(full_key: |(object|reference)_type=).*$", "", text).split())


def _unknown_option(path: str) -> str:
    depth = 2 if path.startswith("hydra/") else 1
    group, option = ("/".join(part) for part in (path.split("/")[:depth], path.split("/")[depth:]))
    if line := option_here(group, option):
        return line
    options = options_of(group)
    if not options:
        return f"{group}={option} does not exist; --info searchpath lists the folders that are searched"
    last_parts = {name.rpartition("/")[2]: name for name in options}
    near = nearest(option, options)
    if not near and (found := difflib.get_close_matches(option, last_parts, n=1)):
        near = f" Did you mean '{last_parts[found[0]]}'?"
    return f"{group}={option} does not exist.{near} Remove it, or choose from conf/{group}: {listed(options)}"


def _unknown_key(key: str, config_name: str) -> str:
    if not key:
        return "an override has no key; leave it out, or write it as key=value"
    parent, _, leaf = key.rpartition(".")
    value = _value_given(key)
    if line := key_here(key, value):
        return line
    if parent == "hydra.sweeper" and leaf in SEARCH_KEYS:
        value = value or _value_given(leaf)
        return f"{leaf} is a key of hydra/sweeper=search; use hydra/sweeper=search {leaf}={value} -m"
    if parent == "hydra.sweeper":
        known, parent_name = [f"{parent}.{name}" for name in SEARCH_KEYS], "hydra/sweeper=search"
    else:
        known, parent_name = _known_keys(config_name), parent or f"src/{config_name}.py"
    siblings = sorted({name.rpartition(".")[2] for name in known if name.rpartition(".")[0] == parent})
    if parent == "optimizer" and (line := our_name_for(leaf, value, siblings)):
        return line
    same = [name for name in known if name.rpartition(".")[2] == leaf]
    if len(same) == 1 and not key.startswith("hydra.") and not nearest(leaf, siblings):
        return f"{key} is called {same[0]} here; set {same[0]}={value or '<value>'}"
    near = nearest(leaf, siblings) or ("" if parent and siblings else nearest(key, known))
    if not siblings:
        part = "hydra" if key.startswith("hydra.") else "job"
        return f"{key} is not a key.{near} Leave it out; --cfg {part} lists the keys"
    # Only these nodes accept keys that conf/ does not list.
    more = f"; or add one with +{key}=..." if parent in ("optimizer", "logger") else ""
    return f"{key} is not a key.{near} Leave it out; {parent_name} has: {', '.join(siblings)}{more}"


def _value_given(key: str) -> str | None:
    """Return the value that the command gives a key; None if the key is part of a longer value."""
    given = (argument.lstrip("+").partition("=") for argument in sys.argv[1:])
    return next((value for name, equals, value in given if equals and name == key), None)


def _known_keys(config_name: str) -> list[str]:
    """Return the groups, and the dotted keys that the command composes without the wrong override."""
    config = _composed(config_name)
    entries = [path for folder in conf_folders() for path in folder.iterdir()]
    groups = [path.name for path in entries if path.is_dir() and path.name != "hydra"]
    return [
        *_dotted(OmegaConf.to_container(config, resolve=False), ""),
        *(groups if "model" in config else []),
    ]


def _is_list(key: str, config_name: str) -> bool:
    """Whether the command composes a list at a dotted key."""
    return isinstance(
        OmegaConf.select(_composed(config_name), key, throw_on_resolution_failure=False), ListConfig
    )


def _composed(config_name: str) -> DictConfig:
    """Return the configuration with the options that the command chooses, but without its values."""
    choices = [argument for argument in sys.argv[1:] if re.fullmatch(r"[a-z_/]+=[\w/]+", argument)]
    choices = [choice for choice in choices if is_group(choice.partition("=")[0])]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            return compose(config_name, overrides=choices)
        except HydraException:  # the script has none of these groups
            return compose(config_name)


def _dotted(node: Any, prefix: str) -> list[str]:
    if not isinstance(node, dict):
        return []
    keys = [f"{prefix}{key}" for key in node if not str(key).startswith("_")]
    return keys + [key for name in node for key in _dotted(node[name], f"{prefix}{name}.")]
