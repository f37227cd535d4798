"""Hydra callback that checks a run's configuration before its folder is created."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tempo.command_line.error_messages import one_line
from tempo.config.check import check
from tempo.config.resolve_interpolations import announced, composed, hydra_knows
from tempo.config.schema import RunConfig
from tempo.distributed.process_group import check_start, follows
from tempo.errors import UserError
from tempo.paths import as_typed
from tempo.record.foreign_folder import are_foreign, check_foreign_config, check_foreign_places
from tempo.record.run_folder import check_folder, named_folder, note_folder


class CheckBeforeRun(Callback):
    """Check the configuration after Hydra composes it and before Hydra creates a folder."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """End the process with one line if the configuration cannot work."""
        try:
            _check_not_a_table(config)
            checked_run(config)
            _say_what_is_not_swept(config)
        except (UserError, OmegaConfBaseException) as error:
            # Hydra turns exceptions of callbacks into warnings, but not SystemExit.
            sys.exit(as_typed(one_line(error)))
        except OSError as error:
            sys.exit(f"{error.filename}: {error.strerror}; choose another folder with hydra.run.dir=<folder>")
        except Exception:  # noqa: BLE001 - Hydra would only warn, and the run could overwrite a finished one
            traceback.print_exc()
            sys.exit(1)


def checked_run(config: DictConfig) -> tuple[RunConfig, Path]:
    """Check a composed configuration and the folder that it names; return both. No folder is created.

    Raises:
        UserError: the configuration cannot work, or the folder cannot be used.
    """
    values = composed(config)
    if values.get("resume") or are_foreign():
        check_foreign_config(values)
    if are_foreign():
        check_foreign_places(values)
    checked = check(values)
    check_start(checked.trainer.exchange)
    folder = _folder_of(config)
    note_folder(folder)
    if not checked.preview:
        check_folder(values, folder)
    return checked, folder


def _folder_of(config: DictConfig) -> Path:
    """Return the folder of the run; UserError if it may not be used."""
    with hydra_knows(announced(config)):
        text, inner = str(config.hydra.run.dir), config.hydra.output_subdir
    folder = named_folder("hydra.run.dir", text)
    if inner not in (None, ".hydra"):
        raise UserError(
            f"hydra.output_subdir={inner}: a run's folder is read from .hydra; leave it out, or set null"
        )
    return folder


def _say_what_is_not_swept(config: DictConfig) -> None:
    axes = OmegaConf.select(config, "hydra.sweeper.params")
    if axes and not follows():
        asked = OmegaConf.select(config, "hydra.runtime.choices.experiment")
        names = ", ".join(map(str, axes))
        print(
            f"note      experiment={asked} sweeps {names}, but this is a single run; add -m to run all values"
        )


def _check_not_a_table(config: DictConfig) -> None:
    rows = OmegaConf.select(config, "hydra.sweeper.rows")
    if isinstance(rows, ListConfig) and rows:
        asked = OmegaConf.select(config, "hydra.runtime.choices.experiment")
        raise UserError(f"experiment={asked} is a table of {len(rows)} runs; add -m, or name one of its rows")
