"""Complaints in one line: what Hydra says of the command line, what the system says of a folder."""

from __future__ import annotations

import errno
import os
import re
import shlex
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tempo.config.schema import SEARCH_KEYS
from tempo.errors import UserError, nearest
from tempo.optimizer.names_and_ranges import our_name_for
from tempo.paths import CONF, ROOT

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
NOT_WRITABLE = (
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.ENOENT,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EINVAL,
)
ONE_RUN = ("evaluate", "reproduce")
"""Scripts that look at one run and cannot be swept."""
MOST_NAMES = 12
"""Options that one line lists."""
# What the parser of overrides says of itself, and tells a user nothing.
_GRAMMAR = re.compile(r"mismatched input|NoViableAlt|no viable|extraneous|^missing |^token|^Error parsing")


def task_line(error: Exception, folder: Path | None) -> str | None:
    """The line for what ended a task, where the user can mend it: a mistake, a full disk, lack of memory."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError):
        return storage_line(error, folder)
    said = str(error).partition("\n")[0]
    # torch raises a RuntimeError on a CPU, and a subclass of it on a GPU.
    if isinstance(error, MemoryError) or re.search(
        r"can't allocate memory|out of memory", said, re.IGNORECASE
    ):
        return (
            f"not enough memory ({said[:200]}): a smaller data.total_batch_size, more trainer.accumulate, "
            "or a smaller network or images"
        )
    return None


def thread_error(found: threading.ExceptHookArgs) -> None:
    """What a thread says of its end: nothing where the disk is full, which the run says by itself."""
    if not (isinstance(found.exc_value, OSError) and found.exc_value.errno in NO_ROOM):
        threading.__excepthook__(found)


def storage_line(error: OSError, folder: Path | None) -> str | None:
    """One line where a full disk or the run's folder is at fault; None for any other error."""
    path = Path(os.fsdecode(error.filename)).absolute() if _has_path(error) else None
    # What cannot be made may be a parent of the run's folder.
    ours = folder and path and any(_is_within(*pair) for pair in ((path, folder), (folder, path)))
    elsewhere = "choose another folder with hydra.run.dir=<folder>"
    where = f"{path}: " if path else ""
    if error.errno in NO_ROOM:
        return f"{where}{error.strerror}; make room" + (f", or {elsewhere}" if ours or not path else "")
    return f"{where}{error.strerror}; {elsewhere}" if ours and error.errno in NOT_WRITABLE else None


def _has_path(error: OSError) -> bool:
    return isinstance(error.filename, (str, bytes)) and bool(error.filename)


def _is_within(path: Path, folder: Path) -> bool:
    """By name or, where links can be followed, by place."""
    try:
        return path.is_relative_to(folder) or path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a link to itself
        return False


def one_line(error: Exception, config_name: str = "train") -> str:
    """The message of a mistake in the configuration, with the nearest right name where one is near."""
    text = str(error)
    if isinstance(error, UserError):
        return text
    if found := re.match(r"UserError raised while resolving interpolation: (.*)", text):
        return found[1]
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override, text.splitlines()[0])
    if found := re.match(r"Ambiguous value for argument '(.*)'\n", text):
        key, _, values = found[1].partition("=")
        if config_name in ONE_RUN:
            return f"{found[1]} has several values: give one"
        return (
            f"{found[1]} has several values: add -m to run each of them, or write {key}=[{values}] for a list"
        )
    if found := re.match(r"Sweep parameters '(.*)' requires --multirun", text):
        return f"{found[1]} has several values: add -m to run each of them"
    if found := re.search(r"Missing mandatory value: (\S+)", text):
        return f"{found[1]} has no value: give {found[1]}=<value>"
    if isinstance(error.__cause__, OmegaConfBaseException):
        text += " " + str(error.__cause__)
    if found := re.match(r"In '([^']*)': Could not find '([^']+)'", text):
        return _unknown_option(found[2])
    if found := re.match(r"Could not override '([^']*)'", text):
        if "is not in struct" in text or "No match" in text or "not in '" in text:
            # `model={a: 1}` is about model.a.
            within = re.search(r"full_key: (\S+)", text)
            return _unknown_key(
                within[1] if within and within[1].startswith(f"{found[1]}.") else found[1], config_name
            )
        return _joined(text)
    return _with_remedy(text, str(error).partition("\n")[0])


def at_start(error: Exception) -> str | None:
    """The line for what Hydra raises, of any type, before a task begins; None for an error of ours."""
    if _runs_through_ours(error.__traceback__):
        return None
    if isinstance(error, RecursionError):
        return (
            "the configuration does not end: a defaults list leads back to its own file, or brackets are "
            "nested too deeply; look at the file that you have added or changed"
        )
    said = _joined(str(error.__cause__ or error)) or f"Hydra refuses the command ({type(error).__name__})"
    return f"{said.rstrip('.')}; --help shows what can be given"


def _runs_through_ours(trace: TracebackType | None) -> bool:
    files = []
    while trace is not None:
        files.append(Path(trace.tb_frame.f_code.co_filename))
        trace = trace.tb_next
    return any(each.is_relative_to(ROOT / "src" / "tempo") for each in files[1:])


def options_of(group: str) -> list[str]:
    """The options of `conf/<group>`, those in its folders with them."""
    base = CONF / group
    return sorted(each.relative_to(base).with_suffix("").as_posix() for each in base.rglob("*.yaml"))


def listed(names: list[str]) -> str:
    """The first names, and how many there are more."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _unreadable(override: str, reason: str) -> str:
    key, equals, value = override.partition("=")
    if not equals or not key:
        return f"{override!r} is no override: write it as key=value"
    if re.match(r"[\[{]", value) and any(value.count(a) != value.count(b) for a, b in ("[]", "{}")):
        return f"{override} cannot be read: close its brackets"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    quoted = shlex.quote(f'{key}="{escaped}"')
    told = "" if _GRAMMAR.search(reason) else f" ({reason})"
    return f"{override} cannot be read{told}: quote special characters, {quoted}, or give another value"


def _with_remedy(text: str, first: str) -> str:
    where = re.search(r"full_key: (\S+)", text)
    said = _joined(text).rstrip(".")
    if found := re.match(r"Error merging override (.*)", first):
        return f"{found[1]}: {said.removeprefix(first).strip()}; leave it out, or give another value"
    if found := re.match(r"Multiple values for (\S+)\.", text):
        return f"{found[1]} is chosen twice: give {found[1]}=<option> once, without +"
    if text.startswith("Could not delete"):
        return f"{said}; leave it out"
    if where and where[1] not in said:
        return f"{where[1]}: {said}; give it another value"
    if "use +" in said or "remove + prefix" in said:
        return said
    return f"{said}; --help shows what can be given"


def _joined(text: str) -> str:
    """One line, without OmegaConf's notes on types."""
    return " ".join(re.sub(r"(?m)^\s*(full_key: |(object|reference)_type=).*$", "", text).split())


def _unknown_option(asked: str) -> str:
    depth = 2 if asked.startswith("hydra/") else 1
    group, option = ("/".join(part) for part in (asked.split("/")[:depth], asked.split("/")[depth:]))
    options = options_of(group)
    if not options:
        return f"{group}={option} is no option; --info searchpath shows where options are looked for"
    near = nearest(option, options) or nearest(option, [each.rpartition("/")[2] for each in options])
    return f"{group}={option} is no option.{near} conf/{group} has: {listed(options)}"


def _unknown_key(key: str, config_name: str) -> str:
    if not key:
        return "an override without a key: write it as key=value"
    if key.startswith("hydra.sweeper."):
        near = nearest(key.rpartition(".")[2], SEARCH_KEYS)
        return f"{key} is no key of this sweeper.{near} hydra/sweeper=search has: {', '.join(SEARCH_KEYS)}"
    if key.partition(".")[0] == "hydra":
        return f"{key} is no key of Hydra's: leave it out; --cfg hydra shows those there are"
    known = _known_keys(config_name)
    if "seed" not in known:  # a script that looks at a run has none of a run's groups
        return f"{key} is no key.{nearest(key, known)} Keys: {', '.join(known)}"
    if "." not in key:
        names = sorted({*_groups(), *(each.partition(".")[0] for each in known)})
        return f"{key} is no key.{nearest(key, [*names, *known])} There are: {', '.join(names)}"
    parent, _, leaf = key.rpartition(".")
    siblings = sorted({each.rpartition(".")[2] for each in known if each.rpartition(".")[0] == parent})
    if not siblings:
        return f"{key} is no key.{nearest(key, known)} --cfg job shows those there are"
    if parent == "optimizer" and (line := our_name_for(leaf)):
        return line
    has = f"{parent} has: {', '.join(siblings)}"
    if parent in ("optimizer", "logger"):  # elsewhere the check knows all keys there are
        has += f"; or add one with +{key}=..."
    return f"{key} is no key.{nearest(leaf, siblings)} {has}"


def _known_keys(config_name: str) -> list[str]:
    """Dotted keys of the configuration that the command line asks for, without the override that failed."""
    choices = [each for each in sys.argv[1:] if re.fullmatch(r"[a-z_/]+=[\w/]+", each)]
    choices = [each for each in choices if (CONF / each.partition("=")[0]).is_dir()]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            config = compose(config_name, overrides=choices)
        except HydraException:  # the script has none of these groups
            config = compose(config_name)
    return _dotted(OmegaConf.to_container(config, resolve=False), "")


def _groups() -> list[str]:
    return [each.name for each in CONF.iterdir() if each.is_dir() and each.name != "hydra"]


def _dotted(node: Any, prefix: str) -> list[str]:
    if not isinstance(node, dict):
        return []
    keys = [f"{prefix}{key}" for key in node if not str(key).startswith("_")]
    return keys + [each for key in node for each in _dotted(node[key], f"{prefix}{key}.")]
