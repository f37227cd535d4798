"""Turn a function of the configuration into a script with Hydra and one-line errors."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from tempo.command_line.arguments import prepared
from tempo.command_line.error_messages import before_task, one_line
from tempo.command_line.help_text import explained
from tempo.command_line.output_streams import keep_streams_open
from tempo.command_line.run_folder_name import register_all_resolvers
from tempo.command_line.start_up import end_at_once
from tempo.command_line.system_errors import storage_line, task_line, thread_error
from tempo.distributed.process_group import take_names_of_torchrun
from tempo.errors import INTERRUPTED_CODE, UserError
from tempo.paths import CONF, as_typed, read_env_file, use_project
from tempo.record.run_folder import noted_folder, remove_unused

STARTED = time.perf_counter()
"""Time at which this process finished its first imports: the start of a single run's time."""
FULL_ERROR = "HYDRA_FULL_ERROR"
"""Hydra's switch to raise errors instead of printing a report. A user sets it to see a traceback."""
Task = Callable[[DictConfig], Any]


def script(config_name: str) -> Callable[[Task], Callable[[], None]]:
    """Make a function of the configuration the main function of a script.

    It works like `hydra.main`, with the arguments of `arguments.prepared`. For a user's mistake, a full disk
    or lack of memory it prints one line to stderr, removes the unused folder and exits with code 1.
    """

    def decorate(task: Task) -> Callable[[], None]:
        @functools.wraps(task)
        def main() -> None:
            _prepare()
            full_error = os.environ.get(FULL_ERROR)
            has_begun = False

            @functools.wraps(task)
            def run(config: DictConfig) -> Any:
                nonlocal has_begun
                has_begun = True
                # The processes that a task starts inherit the user's choice.
                with _variable(FULL_ERROR, full_error):
                    try:
                        return task(config)
                    except (UserError, OSError, MemoryError, RuntimeError) as error:
                        line = task_line(error, noted_folder())
                        if line and HydraConfig.get().mode == RunMode.RUN and full_error != "1":
                            _refuse(line)  # Hydra would print the overrides above an exception
                        raise

            try:
                read_env_file()
                use_project()
                sys.argv[1:] = prepared(sys.argv[1:], config_name)
                with _variable(FULL_ERROR, "1"), _help_explained(config_name):
                    hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(run)()
            except KeyboardInterrupt:
                sys.exit(INTERRUPTED_CODE)
            except Exception as error:
                line = _line_of(error, config_name, has_begun)
                if full_error == "1" or line is None:
                    raise
                _refuse(line)
            finally:
                if not has_begun:  # a task may have left objects whose finalizers must run
                    end_at_once()

        return main

    return decorate


@contextlib.contextmanager
def _help_explained(config_name: str) -> Iterator[None]:
    """Print what Hydra prints for `--help` with explanations; otherwise do nothing."""
    if not {"--help", "-h"} & {*sys.argv[1:]}:
        yield
        return
    try:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            yield
    except SystemExit as end:  # Hydra's end after its help
        if end.code or not printed.getvalue():
            raise
    print(explained(printed.getvalue(), config_name, sys.argv[1:]), end="")


def _prepare() -> None:
    keep_streams_open()
    register_all_resolvers()
    take_names_of_torchrun()
    # Hydra only warns about a search path that does not exist.
    warnings.filterwarnings("error", message="provider=.* is not available")
    threading.excepthook = thread_error


def _line_of(error: Exception, config_name: str, has_begun: bool) -> str | None:
    """Return the line for an error that the user can correct; None for a bug."""
    if isinstance(error, (CompactHydraException, OmegaConfBaseException)):
        return one_line(error, config_name)
    line = storage_line(error, noted_folder()) if isinstance(error, OSError) else None
    # A sweep notes its folder before its first job; what fails after that is not a mistake in the command.
    sweep_has_begun = bool({"-m", "--multirun"} & {*sys.argv}) and noted_folder() is not None
    return line or (None if has_begun or sweep_has_begun else before_task(error))


def _refuse(line: str) -> NoReturn:
    if (folder := noted_folder()) is not None:
        remove_unused(folder)
    sys.exit(as_typed(line))


@contextlib.contextmanager
def _variable(name: str, value: str | None) -> Iterator[None]:
    """Set an environment variable, or remove it if the value is None, and restore it afterwards."""
    before = os.environ.get(name)
    _set(name, value)
    try:
        yield
    finally:
        _set(name, before)


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
