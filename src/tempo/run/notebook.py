"""Train from Python, for example in a notebook: `tempo.train([...])`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from tempo.command_line.arguments import resumed
from tempo.command_line.check_before_run import checked_run
from tempo.command_line.error_messages import one_line
from tempo.command_line.run_folder_name import register_all_resolvers
from tempo.config.recorded_config import hydra_on_conf
from tempo.config.resolve_interpolations import chosen_options
from tempo.errors import UserError
from tempo.record.foreign_folder import forget_foreign
from tempo.record.run_json import RunRecord
from tempo.run.run_request import RunRequest
from tempo.run.train import run


class TrainedRun(NamedTuple):
    """The record of a run, and its folder."""

    record: RunRecord
    folder: Path


def train(overrides: Sequence[str] = ()) -> TrainedRun:
    """Train one run as `python src/train.py <overrides>` does; return its record and its folder.

    A run that diverges or is interrupted returns too: see `record.status`.

    Raises:
        UserError: the overrides are wrong, or the run cannot be trained; the message is one line.
    """
    if isinstance(overrides, str):
        raise UserError(f"overrides={overrides!r} is text; give a list: tempo.train([{overrides!r}])")
    register_all_resolvers()
    forget_foreign()
    try:
        arguments = resumed(list(overrides))
        _check_single(arguments)
        with hydra_on_conf():
            config = compose("train", overrides=arguments, return_hydra_config=True)
            checked, folder = checked_run(config)
        if checked.preview:
            raise UserError("preview=true trains nothing; use src/train.py, or leave it out")
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(one_line(error)) from error
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    request = RunRequest(
        config=checked,
        folder=folder,
        overrides=list(map(str, config.hydra.overrides.task)),
        choices=chosen_options(config.hydra),
    )
    return TrainedRun(run(request), folder)


def _check_single(arguments: Sequence[str]) -> None:
    for argument in arguments:
        if argument.startswith("-"):
            raise UserError(f"{argument} is a flag, which tempo.train does not take; leave it out")
    for override in OverridesParser.create().parse_overrides(list(arguments)):
        if override.is_sweep_override():
            raise UserError(
                f"{override.input_line} has several values, and tempo.train trains one run; call it once for "
                "each, or use src/train.py -m"
            )
