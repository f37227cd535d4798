"""From the command line to Hydra and back: where -m may stand, resuming, and errors in one line."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from tempo.command_line.start_up import end_at_once, importing, search_as_usual, search_seldom

with importing("hydra"):
    import hydra
    from hydra._internal.utils import get_args_parser
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import CompactHydraException
    from hydra.types import RunMode
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError, safe_load

    from tempo.command_line.error_messages import (
        ONE_RUN,
        at_start,
        listed,
        one_line,
        options_of,
        storage_line,
        task_line,
        thread_error,
    )
    from tempo.command_line.quick_start import spare_hydra
    from tempo.config.schema import SEARCH_KEYS
    from tempo.distributed.process_group import RUN_ID, follows, place, take_names_of_torchrun
    from tempo.errors import INTERRUPTED_CODE, UserError, nearest
    from tempo.paths import CONF, register_resolvers
    from tempo.record.foreign_folder import foreign_overrides, note_foreign
    from tempo.record.run_folder import named_run, noted_folder, quoted, remove_unused
    from tempo.record.run_json import FILE_NAME, RunRecord

STARTED = time.perf_counter()
"""When this process had read its first imports: the begin of a single run's time."""
# What Hydra takes for an option of a group although it can be none: no text, or a path.
_NO_OPTION = re.compile(r"null|true|false|[-+]?[\d.]+(e[-+]?\d+)?|.*\.ya?ml|/.*|.*\.\..*", re.IGNORECASE)
Task = Callable[[DictConfig], Any]


def script(config_name: str) -> Callable[[Task], Callable[[], None]]:
    """Make a function of the configuration the main function of a start-up script.

    What `hydra.main` does, and besides: `-m` may stand anywhere; a script that takes one run takes its folder
    without `run=`; `resume=<folder>` brings the overrides of that run back; a UserError, a mistake in the
    command or a folder that cannot be written is one line on stderr and exit code 1, and takes back what it
    has made of the run's folder.
    """

    def decorate(task: Task) -> Callable[[], None]:
        @functools.wraps(task)
        def main() -> None:
            search_seldom()
            _prepare()
            before = os.environ.get("HYDRA_FULL_ERROR")
            has_begun = False

            @functools.wraps(task)
            def run(config: DictConfig) -> Any:
                nonlocal has_begun
                has_begun = True
                search_as_usual()
                # The processes that a task starts report errors in their own way.
                _restore("HYDRA_FULL_ERROR", before)
                try:
                    return task(config)
                except (UserError, OSError, MemoryError, RuntimeError) as error:
                    line = task_line(error, noted_folder())
                    if line and HydraConfig.get().mode == RunMode.RUN and before != "1":
                        # Hydra would print the overrides above an exception.
                        _refuse(line)
                    raise
                finally:
                    os.environ["HYDRA_FULL_ERROR"] = "1"

            try:
                arguments = named_run(sys.argv[1:]) if config_name in ONE_RUN else sys.argv[1:]
                arguments = with_options(multirun_first(search_keys(arguments)))
                arguments = with_quoted_paths(resumed(known_flags(arguments, config_name)))
                sys.argv[1:] = [*arguments, *_quietly()]
                spare_hydra(CONF)
                # Makes Hydra raise instead of printing its own report.
                os.environ["HYDRA_FULL_ERROR"] = "1"
                hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(run)()
            except (CompactHydraException, OmegaConfBaseException) as error:
                if before == "1":
                    raise
                _refuse(one_line(error, config_name))
            except KeyboardInterrupt:
                sys.exit(INTERRUPTED_CODE)
            except Exception as error:
                line = _line_of(error, has_begun)
                if before == "1" or line is None:
                    raise
                _refuse(line)
            finally:
                _restore("HYDRA_FULL_ERROR", before)
                if not has_begun:
                    end_at_once()

        return main

    return decorate


def _prepare() -> None:
    register_resolvers()
    take_names_of_torchrun()
    OmegaConf.register_new_resolver("run_folder", _run_folder, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("existing_run", _existing_run, replace=True)
    # A search path that is not there is a mistake as any other.
    warnings.filterwarnings("error", message="provider=.* is not available")
    threading.excepthook = thread_error


def _line_of(error: Exception, has_begun: bool) -> str | None:
    """What the user is told of an error that is not ours; None where it is no mistake of theirs."""
    if isinstance(error, BrokenPipeError) and not has_begun:
        _leave_pipe()
    line = storage_line(error, noted_folder()) if isinstance(error, OSError) else None
    return line or (None if has_begun else at_start(error))


def _leave_pipe() -> NoReturn:
    """End as a program does that nobody reads any longer, as with `--help | head`."""
    # The interpreter would complain once more when it flushes what is left.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(141)  # 128 + SIGPIPE, which Windows does not know


def _refuse(line: str) -> NoReturn:
    if (folder := noted_folder()) is not None:
        remove_unused(folder)
    sys.exit(line)


def multirun_first(arguments: list[str]) -> list[str]:
    """Move `-m` to the front: Hydra 1.3 refuses it between two overrides."""
    flags = [each for each in arguments if each in ("-m", "--multirun")]
    return flags[:1] + [each for each in arguments if each not in ("-m", "--multirun")]


def search_keys(arguments: list[str]) -> list[str]:
    """The arguments, with `n_trials=20` as `hydra.sweeper.n_trials=20`."""
    return [f"hydra.sweeper.{each}" if each.partition("=")[0] in SEARCH_KEYS else each for each in arguments]


def with_options(arguments: list[str]) -> list[str]:
    """The arguments; UserError for an option that no file can be, on some of which Hydra 1.3 raises."""
    for each in arguments:
        group, _, option = each.lstrip("+").partition("=")
        if group and _NO_OPTION.fullmatch(option) and (CONF / group).is_dir():
            options = options_of(group)
            near = nearest(Path(option).stem, options)
            raise UserError(
                f"{group}={option} is no option: leave it out.{near} conf/{group} has: {listed(options)}"
            )
    return arguments


def known_flags(arguments: list[str], config_name: str = "train") -> list[str]:
    """The arguments; UserError for a flag that is none, or that leads to no configuration of the script."""
    parser = get_args_parser()
    parser.exit_on_error = False
    try:
        known, unknown = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise UserError(f"{error}; --help shows what can be given") from error
    for each in unknown:
        if each.startswith("-"):
            flags = re.findall(r"--[a-z-]+", parser.format_usage())
            raise UserError(f"{each} is no flag.{nearest(each, flags)} --help shows what can be given")
        raise UserError(f"{each}: overrides cannot stand on both sides of a flag; put the flags last")
    if known.experimental_rerun:
        raise UserError(
            "--experimental-rerun runs what a pickle says; resume=<folder> goes on with a run, and "
            "src/reproduce.py <folder> runs its record again"
        )
    if config_name in ONE_RUN and (own := [each for each in arguments if re.match(r"[+~]*hydra\.run", each)]):
        raise UserError(f"{own[0]}: src/{config_name}.py makes no folder of Hydra's; leave it out")
    if known.multirun and config_name in ONE_RUN:
        raise UserError(f"-m: src/{config_name}.py takes one run at a time; leave it out")
    if known.config_dir and not Path(known.config_dir).is_dir():
        raise UserError(f"--config-dir={known.config_dir} is no folder: name one, or leave it out")
    ours = {path.stem for path in CONF.glob("*.yaml")}
    if known.config_name in ours - {config_name}:
        raise UserError(
            f"--config-name={known.config_name} is not what this script runs: leave it out; each script "
            "has its own"
        )
    if known.config_name and known.config_name not in ours and not known.config_dir and not known.config_path:
        raise UserError(f"--config-name={known.config_name}: there is no such file in conf/; leave it out")
    return arguments


def resumed(arguments: list[str]) -> list[str]:
    """Put the overrides of the run named by `resume=<folder>` in front of the others.

    A run that was killed while it started has no record yet, only what Hydra wrote: it starts again there.

    Of a recorded override that only its user may say, the one given anew beside `resume=` counts.

    Raises:
        UserError: no run there, or see `foreign_overrides`.
    """
    named = [each.partition("=")[2] for each in arguments if each.startswith("resume=")]
    if not named or named[-1] == "null":
        return arguments
    text = re.sub(r"""^(['"])(.*)\1$""", r"\2", named[-1])
    if not text.strip():
        raise UserError("resume= names no folder: resume=<folder of a run>, or leave it out")
    folder = Path(text).expanduser().absolute()
    others = [argument for argument in arguments if not argument.startswith("resume=")]
    typed = note_foreign(others)
    asked = folder / ".hydra" / "overrides.yaml"
    if not (folder / FILE_NAME).exists() and asked.exists():  # killed before its first record
        kept = foreign_overrides(_asked(asked), asked, typed=typed)
        return [*kept, *others, f"hydra.run.dir={quoted(str(folder))}"]
    record = RunRecord.read(folder)
    kept = foreign_overrides(record.overrides, folder / FILE_NAME, record.config, typed)
    kept = [override for override in kept if not override.startswith("resume=")]
    return [*kept, *others, f"resume={quoted(str(folder))}"]


def with_quoted_paths(arguments: list[str]) -> list[str]:
    """The arguments, with quotes around a path that has `=` in it, as the folders of a sweep's runs have."""

    def with_quotes(argument: str) -> str:
        key, _, value = argument.partition("=")
        is_path = "=" in value and os.path.exists(os.path.expanduser(value))  # noqa: PTH110, PTH111
        return f"{key}={quoted(value)}" if is_path and not key.startswith("-") else argument

    return [with_quotes(each) for each in arguments]


def _asked(path: Path) -> list[str]:
    overrides: Any = None
    # Not OmegaConf's reader, which copies what a few anchors say a billion times.
    with contextlib.suppress(YAMLError, OSError, ValueError, RecursionError):
        overrides = safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(overrides, list) or not all(isinstance(each, str) for each in overrides):
        raise UserError(f"{path} cannot be read: start a new run without resume=")
    return overrides


def _run_folder(resume: str | None, parent: str, name: str) -> str:
    """Where a run writes: the folder it resumes, or a new one that no other process can have."""
    if resume:
        return resume
    if (here := place()) is not None and here.world_size > 1:
        if not here.shared_id:
            raise UserError(
                f"the {here.world_size} processes of this run need one folder: torchrun --rdzv-id=<name>, "
                f"{RUN_ID}=<name> in front, or hydra.run.dir=<folder>"
            )
        return f"{parent}/{here.shared_id}_{name}"
    return new_folder(parent, name)


def new_folder(parent: str, name: str) -> str:
    """A path that no other process will take."""
    return f"{parent}/{datetime.now():%Y-%m-%d_%H-%M-%S}_{name}_{os.getpid():x}{os.urandom(1).hex()}"


def _quietly() -> list[str]:
    """What lets Hydra write nothing in a process whose run is recorded by another."""
    return ["hydra.output_subdir=null", "hydra/job_logging=stdout"] if follows() else []


def _existing_run(run: Any) -> str:
    """The folder where a script works that writes nothing of its own: `run` is only checked to be a run's."""
    if not str(run or "").strip():
        raise UserError("run= names no folder: run=<folder of a run>")
    if not isinstance(run, str):
        raise UserError(f"run={run} is not text: run=<folder of a run>, and quotes where it is a number")
    RunRecord.read(Path(run).expanduser().absolute())
    return "."


def _restore(key: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(key, None)
    else:
        os.environ[key] = value
