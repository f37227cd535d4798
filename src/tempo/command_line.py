"""From the command line to Hydra and back: where -m may stand, resuming, and errors in one line."""

from __future__ import annotations

import argparse
import errno
import functools
import os
import re
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import CompactHydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from tempo.errors import INTERRUPTED_CODE, UserError, nearest
from tempo.knobs import OUR_NAMES
from tempo.paths import ROOT, register_resolvers
from tempo.record import FILE_NAME, RunRecord
from tempo.run_folder import noted_folder
from tempo.trial import SEARCH_KEYS

STARTED = time.perf_counter()
"""When this process had read its first imports: the begin of a single run's time."""
CONF = ROOT / "conf"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENOENT, errno.EEXIST)
Task = Callable[[DictConfig], Any]


def script(config_name: str) -> Callable[[Task], Callable[[], None]]:
    """Make a function of the configuration the main function of a start-up script.

    What `hydra.main` does, and besides: `-m` may stand anywhere; `resume=<folder>` brings the overrides of
    that run back; a UserError, a mistake in an override or a folder that cannot be written is one line on
    stderr and exit code 1.
    """

    def decorate(task: Task) -> Callable[[], None]:
        @functools.wraps(task)
        def main() -> None:
            register_resolvers()
            OmegaConf.register_new_resolver("run_folder", _run_folder, use_cache=True, replace=True)
            OmegaConf.register_new_resolver("existing_run", _existing_run, replace=True)
            before = os.environ.get("HYDRA_FULL_ERROR")

            @functools.wraps(task)
            def run(config: DictConfig) -> Any:
                # The processes that a task starts report errors in their own way.
                _restore("HYDRA_FULL_ERROR", before)
                try:
                    return task(config)
                except (UserError, OSError) as error:
                    line = str(error) if isinstance(error, UserError) else storage_line(error, noted_folder())
                    if line and HydraConfig.get().mode == RunMode.RUN and before != "1":
                        # Hydra would print the overrides above an exception.
                        sys.exit(line)
                    raise
                finally:
                    os.environ["HYDRA_FULL_ERROR"] = "1"

            try:
                arguments = with_options(multirun_first(search_keys(sys.argv[1:])))
                sys.argv[1:] = resumed(known_flags(arguments))
                # Makes Hydra raise instead of printing its own report.
                os.environ["HYDRA_FULL_ERROR"] = "1"
                hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(run)()
            except (CompactHydraException, OmegaConfBaseException) as error:
                if before == "1":
                    raise
                sys.exit(one_line(error))
            except OSError as error:
                line = storage_line(error, noted_folder())
                if before == "1" or line is None:
                    raise
                sys.exit(line)
            except KeyboardInterrupt:
                sys.exit(INTERRUPTED_CODE)
            finally:
                _restore("HYDRA_FULL_ERROR", before)

        return main

    return decorate


def multirun_first(arguments: list[str]) -> list[str]:
    """Move `-m` to the front: Hydra 1.3 refuses it between two overrides."""
    flags = [each for each in arguments if each in ("-m", "--multirun")]
    return flags[:1] + [each for each in arguments if each not in ("-m", "--multirun")]


def search_keys(arguments: list[str]) -> list[str]:
    """The arguments, with `n_trials=20` as `hydra.sweeper.n_trials=20`."""
    return [f"hydra.sweeper.{each}" if each.partition("=")[0] in SEARCH_KEYS else each for each in arguments]


def with_options(arguments: list[str]) -> list[str]:
    """The arguments; UserError for `<group>=null`, on which Hydra 1.3 ends in a traceback."""
    for each in arguments:
        group, _, option = each.lstrip("+").partition("=")
        if option == "null" and group and (CONF / group).is_dir():
            raise UserError(
                f"{group}=null chooses nothing: leave it out. conf/{group} has: {', '.join(_options(group))}"
            )
    return arguments


def known_flags(arguments: list[str]) -> list[str]:
    """The arguments; UserError for a flag that is none, where Hydra would print its usage."""
    parser = get_args_parser()
    parser.exit_on_error = False
    try:
        unknown = parser.parse_known_args(arguments)[1]
    except argparse.ArgumentError as error:
        raise UserError(f"{error}; --help shows what can be given") from error
    for each in unknown:
        if each.startswith("-"):
            flags = re.findall(r"--[a-z-]+", parser.format_usage())
            raise UserError(f"{each} is no flag.{nearest(each, flags)} --help shows what can be given")
        raise UserError(f"{each}: overrides cannot stand on both sides of a flag; put the flags last")
    return arguments


def resumed(arguments: list[str]) -> list[str]:
    """Put the overrides of the run named by `resume=<folder>` in front of the others.

    A run that was killed while it started has no record yet, only what Hydra wrote: it starts again there.

    Raises:
        UserError: no run there, or a record whose overrides are more than keys of a run with their values.
    """
    named = [each.partition("=")[2] for each in arguments if each.startswith("resume=")]
    if not named or named[-1] in ("", "null"):
        return arguments
    text = re.sub(r"""^(['"])(.*)\1$""", r"\2", named[-1])
    folder = Path(text).expanduser().absolute()
    others = [each for each in arguments if not each.startswith("resume=")]
    quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    asked = folder / ".hydra" / "overrides.yaml"
    if not (folder / FILE_NAME).exists() and asked.exists():  # killed before its first record
        return [*recorded_overrides(_asked(asked), folder), *others, f"hydra.run.dir='{quoted}'"]
    record = RunRecord.read(folder)
    kept = [each for each in recorded_overrides(record.overrides, folder) if not each.startswith("resume=")]
    return [*kept, *others, f"resume='{quoted}'"]


def _asked(path: Path) -> list[str]:
    try:
        overrides = OmegaConf.to_container(OmegaConf.load(path))
    except (YAMLError, OSError, UnicodeDecodeError):
        overrides = None
    if not isinstance(overrides, list):
        raise UserError(f"{path} cannot be read: start a new run without resume=")
    return [str(each) for each in overrides]


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
        except (ValueError, OverrideParseException):
            raise UserError(
                f"{folder / FILE_NAME} has overrides with {each!r}, which no run records: the folder was "
                "changed or is not of tempo; start a new run without resume="
            ) from None
    return overrides


def storage_line(error: OSError, folder: Path | None) -> str | None:
    """One line where a full disk or the run's folder is at fault; None for any other error."""
    path = Path(os.fsdecode(error.filename)).resolve() if _has_path(error) else None
    # What cannot be made may be a parent of the run's folder.
    ours = folder and path and (path.is_relative_to(folder) or folder.is_relative_to(path))
    elsewhere = "choose another folder with hydra.run.dir=<folder>"
    where = f"{path}: " if path else ""
    if error.errno in NO_ROOM:
        return f"{where}{error.strerror}; make room" + (f", or {elsewhere}" if ours or not path else "")
    return f"{where}{error.strerror}; {elsewhere}" if ours and error.errno in NOT_WRITABLE else None


def _has_path(error: OSError) -> bool:
    return isinstance(error.filename, (str, bytes)) and bool(error.filename)


def one_line(error: Exception) -> str:
    """The message of a mistake in the configuration, with the nearest right name where one is near."""
    text = str(error)
    if isinstance(error, UserError):
        return text
    if found := re.match(r"UserError raised while resolving interpolation: (.*)", text):
        return found[1]
    if isinstance(error, OverrideParseException):
        reason = text.splitlines()[0]
        return f"{error.override} cannot be read: {reason}; quote special characters: 'key=\"a,b\"'"
    if found := re.match(r"Ambiguous value for argument '(.*)'\n", text):
        key, _, values = found[1].partition("=")
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
    if found := re.match(r"Could not override '([^']+)'", text):
        if "is not in struct" in text or "No match" in text:
            return _unknown_key(found[1])
        return " ".join(text.split())
    return " ".join(text.replace("\n", " ").split())


def _unknown_option(asked: str) -> str:
    group, _, option = asked.rpartition("/")
    options = _options(group)
    if not options:
        return f"{asked}: there is no conf/{asked}.yaml"
    return f"{group}={option} is no option.{nearest(option, options)} conf/{group} has: {', '.join(options)}"


def _unknown_key(key: str) -> str:
    groups = sorted(each.name for each in CONF.iterdir() if each.is_dir())
    known = _known_keys()
    if "." not in key:
        return f"{key} is no key.{nearest(key, [*groups, *known])} Groups: {', '.join(groups)}"
    parent, _, leaf = key.rpartition(".")
    if parent == "hydra.sweeper":
        return (
            f"{key} is no key of this sweeper.{nearest(leaf, SEARCH_KEYS)} hydra/sweeper=search has: "
            f"{', '.join(SEARCH_KEYS)}"
        )
    siblings = sorted({each.rpartition(".")[2] for each in known if each.rpartition(".")[0] == parent})
    if not siblings:
        return f"{key} is no key.{nearest(key, known)}"
    if parent == "optimizer" and leaf in OUR_NAMES:
        return f"{key} is called {OUR_NAMES[leaf]} here: set it by that name"
    has = f"{parent} has: {', '.join(siblings)}"
    if parent in ("optimizer", "logger"):  # elsewhere the check knows all keys there are
        has += f"; or add one with +{key}=..."
    return f"{key} is no key.{nearest(leaf, siblings)} {has}"


def _known_keys() -> list[str]:
    """Dotted keys of the configuration that the command line asks for, without the override that failed."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    choices = [each for each in sys.argv[1:] if re.fullmatch(r"[a-z_/]+=[\w/]+", each)]
    choices = [each for each in choices if (CONF / each.partition("=")[0]).is_dir()]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides=choices)
    return _dotted(OmegaConf.to_container(config, resolve=False), "")


def _dotted(node: Any, prefix: str) -> list[str]:
    if not isinstance(node, dict):
        return []
    keys = [f"{prefix}{key}" for key in node if not str(key).startswith("_")]
    return keys + [each for key in node for each in _dotted(node[key], f"{prefix}{key}.")]


def _options(group: str) -> list[str]:
    return sorted(each.stem for each in (CONF / group).glob("*.yaml"))


def _run_folder(resume: str | None, parent: str, name: str) -> str:
    """Where a run writes: the folder it resumes, or a new one that no other process can have."""
    if resume:
        return resume
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    return f"{parent}/{stamp}_{name}_{os.getpid():x}{os.urandom(1).hex()}"


def _existing_run(run: str) -> str:
    """The folder where a script works that writes nothing of its own: `run` is only checked to be a run's."""
    RunRecord.read(Path(run).expanduser().absolute())
    return "."


def _restore(key: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(key, None)
    else:
        os.environ[key] = value
