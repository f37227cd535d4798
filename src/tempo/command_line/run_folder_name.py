"""Resolvers that name run folders: `${run_folder:..}` and `${existing_run:..}` in conf/."""

from __future__ import annotations

import functools
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from tempo.distributed.process_group import RUN_ID, position
from tempo.errors import UserError
from tempo.paths import register_resolvers
from tempo.record.run_json import RunRecord


def register_all_resolvers() -> None:
    """Register the resolvers of `tempo.paths` and those of this file."""
    register_resolvers()
    # Without the cache, each reading of the configuration would name a new folder.
    OmegaConf.register_new_resolver("run_folder", _run_folder, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("existing_run", _existing_run, replace=True)
    # Our sweepers name their folder after what is swept; any other sweeper, as Hydra's own, after the time.
    OmegaConf.register_new_resolver("sweep_name", _time_of_start, replace=True)


def new_folder(parent: str, name: str) -> str:
    """Return a path that no other process will use."""
    return f"{parent}/{datetime.now():%Y-%m-%d_%H-%M-%S}_{name}_{os.getpid():x}{os.urandom(1).hex()}"


@functools.cache
def _time_of_start() -> str:
    return new_folder("", "sweep").lstrip("/")


def _run_folder(resume: str | None, parent: str, name: str) -> str:
    """Return the folder to resume, the shared folder of a process group, or a new one."""
    if resume:
        return resume
    if (here := position()) is not None and here.world_size > 1:
        if not here.shared_id:
            raise UserError(
                f"the {here.world_size} processes of this run need one folder; use torchrun "
                f"--rdzv-id=<name>, put {RUN_ID}=<name> in front, or set hydra.run.dir=<folder>"
            )
        return f"{parent}/{here.shared_id}_{name}"
    return new_folder(parent, name)


def _existing_run(run: Any) -> str:
    """Check that `run` is a run's folder; return the current folder as Hydra's, since nothing is written."""
    if not str(run or "").strip():
        raise UserError("run= does not name a folder; set run=<folder of a run>")
    if not isinstance(run, str):
        raise UserError(f"run={run} is not text; set run=<folder of a run>, with quotes around a number")
    RunRecord.read(Path(run).expanduser().absolute())
    return "."
