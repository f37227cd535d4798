"""Prepare a script's arguments for Hydra: flags, short forms, and the overrides of a resumed run."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from yaml import YAMLError, safe_load

from tempo.command_line.error_messages import NO_SWEEP, ONE_RUN, SEARCH_KEYS, listed, options_of
from tempo.distributed.process_group import follows
from tempo.errors import UserError, nearest
from tempo.paths import conf_folders, is_group
from tempo.record.foreign_folder import foreign_overrides, note_foreign
from tempo.record.read_file import read_text
from tempo.record.run_folder import has_checkpoint, named_run, quoted
from tempo.record.run_json import FILE_NAME, RecordLostError, RunRecord

# Values and paths, which Hydra accepts as an option of a group although no option can have such a name.
_NO_OPTION = re.compile(r"null|true|false|[-+]?[\d.]+(e[-+]?\d+)?|.*\.ya?ml|/.*|.*\.\..*", re.IGNORECASE)
_OF_SWEEPS = re.compile(r"hydra[/.](sweeper|launcher)\b")
_A_SPACE = "'optimizer.lr=tag(log,interval(1e-3,1))'"
# If another process records the run, Hydra must not write any files for this one.
_QUIET = ["hydra.output_subdir=null", "hydra/job_logging=stdout"]


def prepared(arguments: list[str], config_name: str) -> list[str]:
    """Return the arguments in the form Hydra accepts.

    Raises:
        UserError: a flag, an option or a folder cannot be used.
    """
    arguments = named_run(arguments) if config_name in ONE_RUN else arguments
    _check_repeated(arguments)
    if config_name not in NO_SWEEP:
        _check_multirun(arguments)
    arguments = multirun_first(_with_search_keys(arguments))
    _check_options(arguments)
    check_flags(arguments, config_name)
    arguments = [_with_quoted_path(argument) for argument in resumed(arguments)]
    return [*arguments, *(_QUIET if follows() else [])]


def multirun_first(arguments: list[str]) -> list[str]:
    """Move `-m` to the front: Hydra 1.3 refuses it between two overrides."""
    flags = [argument for argument in arguments if argument in ("-m", "--multirun")]
    return flags[:1] + [argument for argument in arguments if argument not in flags]


def _with_search_keys(arguments: list[str]) -> list[str]:
    """Rewrite `n_trials=20` as `hydra.sweeper.n_trials=20`."""
    return [
        f"hydra.sweeper.{argument}" if argument.partition("=")[0] in SEARCH_KEYS else argument
        for argument in arguments
    ]


def _check_repeated(arguments: list[str]) -> None:
    """Raise UserError for a key with two values, of which Hydra would silently take the last."""
    given: dict[str, str] = {}
    for argument in arguments:
        key, equals, value = argument.lstrip("+").partition("=")
        # A script around tempo may name a folder that the user then replaces: Hydra's keys are left to Hydra.
        if not equals or argument.startswith(("-", "~")) or key.startswith("hydra."):
            continue
        if given.setdefault(key, value) != value:
            raise UserError(f"{key} has two values, {given[key]} and {value}; leave one of them out")


def _check_multirun(arguments: list[str]) -> None:
    """Raise UserError for a key that belongs to a sweep in a single run, and the other way round."""
    if {"--cfg", "-c", "--info", "-i", "--help", "-h"} & {*arguments}:
        return
    is_sweep = bool({"-m", "--multirun", "hydra.mode=MULTIRUN"} & {*arguments})
    if is_sweep and {"--run", "-r"} & {*arguments}:
        return  # Hydra refuses the two together
    for argument in arguments:
        key, _, value = argument.lstrip("+").partition("=")
        lone_search_key = key in SEARCH_KEYS and not _chooses_a_sweeper(arguments)
        if not is_sweep and (_OF_SWEEPS.match(key) or key in SEARCH_KEYS):
            needs = f"use hydra/sweeper=search {argument} {_A_SPACE} -m" if lone_search_key else "add -m"
            raise UserError(
                f"{argument} is for sweeps, and this is a single run; {needs}, or leave {key} out"
            )
        if is_sweep and key in ("resume", "preview") and value not in ("null", "false"):
            raise UserError(
                f"{argument} is for a single run, and -m starts a sweep, whose own command resumes its jobs; "
                + ("leave -m out" if key == "resume" else "leave preview out")
            )
    _check_folder(arguments, is_sweep)


def _check_folder(arguments: list[str], is_sweep: bool) -> None:
    """Raise UserError if only the folder of the other kind is named; a script around tempo may name both."""
    folders = {key: value for key, _, value in (argument.partition("=") for argument in arguments)}
    used, unused = ("hydra.sweep.dir", "hydra.run.dir")[:: 1 if is_sweep else -1]
    if unused in folders and used not in folders:
        value = folders[unused]
        this = "-m starts a sweep" if is_sweep else "this is a single run"
        flag = "" if is_sweep else ", or add -m"
        raise UserError(f"{unused}={value} has no effect, because {this}; set {used}={value}{flag}")


def _chooses_a_sweeper(arguments: list[str]) -> bool:
    return any(re.match(r"\+*(hydra/sweeper|experiment)=", argument) for argument in arguments)


def _check_options(arguments: list[str]) -> None:
    """Raise UserError for an option that cannot be a file; Hydra 1.3 crashes on some of these."""
    for argument in arguments:
        group, _, option = argument.lstrip("+").partition("=")
        if group and _NO_OPTION.fullmatch(option) and is_group(group):
            options = options_of(group)
            near = nearest(Path(option).stem, options)
            raise UserError(
                f"{group}={option} does not exist.{near} Remove it, or choose from conf/{group}: "
                f"{listed(options)}"
            )


def check_flags(arguments: list[str], config_name: str = "train") -> None:
    """Raise UserError for a flag that is unknown or not supported by the script."""
    parser = get_args_parser()
    parser.exit_on_error = False
    try:
        known, unknown = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise UserError(f"{error}; --help lists the flags") from error
    if unknown and unknown[0].startswith("-"):
        flags = re.findall(r"--[a-z-]+", parser.format_usage())
        raise UserError(f"{unknown[0]} is not a flag.{nearest(unknown[0], flags)} --help lists the flags")
    if unknown:
        raise UserError(
            f"{unknown[0]}: overrides cannot come both before and after a flag; put the flags last"
        )
    if known.experimental_rerun:
        raise UserError(
            "--experimental-rerun runs code from a pickle; use resume=<folder> to resume a run, or "
            "src/reproduce.py <folder> to reproduce its record"
        )
    if config_name in ONE_RUN:
        for argument in arguments:
            if re.match(r"[+~]*hydra\.run", argument):
                raise UserError(f"{argument}: src/{config_name}.py creates no Hydra folder; leave it out")
        if known.multirun:
            raise UserError(f"-m: src/{config_name}.py takes one run at a time; leave it out")
    if known.config_dir and not Path(known.config_dir).is_dir():
        raise UserError(f"--config-dir={known.config_dir} is not a folder; name one, or leave it out")
    name = known.config_name
    ours = {path.stem for folder in conf_folders() for path in folder.glob("*.yaml")}
    if name in ours - {config_name}:
        raise UserError(f"--config-name={name} belongs to another script; leave it out")
    if name and name not in ours and not known.config_dir and not known.config_path:
        raise UserError(f"--config-name={name}: conf/ has no such file; leave it out")


def resumed(arguments: list[str]) -> list[str]:
    """Put the overrides of the run named by `resume=<folder>` before the others.

    A run that was killed before its first record has only Hydra's files, and starts again in its folder. If
    a record is lost later, the run goes on from its checkpoints. An override that is not trusted from a
    folder counts only if the user types it again next to `resume=`.

    Raises:
        UserError: the folder has no run, or an error of `foreign_overrides`.
    """
    named = [argument.partition("=")[2] for argument in arguments if argument.startswith("resume=")]
    if not named or named[-1] == "null":
        return arguments
    text = re.sub(r"""^(['"])(.*)\1$""", r"\2", named[-1])
    if not text.strip():
        raise UserError("resume= does not name a folder; set resume=<folder of a run>, or leave it out")
    folder = Path(text).expanduser().absolute()
    others = [argument for argument in arguments if not argument.startswith("resume=")]
    typed = note_foreign(others)
    of_hydra = folder / ".hydra" / "overrides.yaml"
    try:
        record = RunRecord.read(folder)
    except RecordLostError:
        if not of_hydra.exists():
            raise
        kept = foreign_overrides(_read_overrides(of_hydra), of_hydra, typed=typed)
        key = "resume" if has_checkpoint(folder) else "hydra.run.dir"
        return [*kept, f"{key}={quoted(str(folder))}", *others]
    kept = foreign_overrides(record.overrides, folder / FILE_NAME, record.config, typed)
    kept = [_as_recorded(one, record) for one in kept if not one.startswith("resume=")]
    ema = record.config.get("ema")
    if isinstance(ema, dict) and ema.get("decay") is not None and "warmup" not in ema:
        kept.append("ema.warmup=false")  # the run began before there was a warm-up
    return [*kept, f"resume={quoted(str(folder))}", *others]


def _as_recorded(override: str, record: RunRecord) -> str:
    """Return an override with the absolute folder of the record: the command may be given elsewhere."""
    key, _, value = override.partition("=")
    data = record.config.get("data")
    name = key.removeprefix("data.")
    relative = key in ("data.root", "data.cache") and not value.strip("'\"").startswith(("/", "~"))
    if relative and isinstance(data, dict) and isinstance(data.get(name), str):
        return f"{key}={quoted(data[name])}"
    return override


def _read_overrides(path: Path) -> list[str]:
    overrides: Any = None
    # Not OmegaConf's reader: it copies every YAML alias, so a few nested anchors could fill the memory.
    with contextlib.suppress(YAMLError, OSError, ValueError, RecursionError):
        overrides = safe_load(read_text(path))
    if not isinstance(overrides, list) or not all(isinstance(override, str) for override in overrides):
        raise UserError(f"{path} cannot be read; start a new run without resume=")
    return overrides


def _with_quoted_path(argument: str) -> str:
    """Quote an existing path that Hydra would read otherwise, as `=` in a sweep's folders, or a comma."""
    key, _, value = argument.partition("=")
    is_special = re.search(r"[^\w/.~-]", value, re.ASCII)
    is_path = is_special and os.path.exists(os.path.expanduser(value))  # noqa: PTH110, PTH111
    return f"{key}={quoted(value)}" if is_path and not key.startswith("-") else argument
