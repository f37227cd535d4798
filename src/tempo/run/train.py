"""Configuration in, record out: the one training path there is."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from tempo.command_line.script import STARTED
from tempo.config.check import check, plain
from tempo.distributed.process_group import check_layout, follows, has_group, leave_group, place
from tempo.errors import INTERRUPTED_CODE
from tempo.record.folder_lock import FolderLock
from tempo.record.run_json import RunRecord
from tempo.run import build
from tempo.run.preview import show_preview
from tempo.run.process_launch import launch_group, needs_group
from tempo.run.run_request import RunRequest
from tempo.run.training import Training
from tempo.trainer.search_trial import trial_of


def run_from_hydra(config: DictConfig) -> float | None:
    """Run the job that Hydra composed, in the folder that Hydra made; the objective's value for a sweep."""
    hydra = HydraConfig.get()
    values = plain(config)
    check(values)
    if values["preview"]:
        show_preview(values, Path(hydra.runtime.output_dir))
        return None
    choices = {
        str(k): str(v) for k, v in hydra.runtime.choices.items() if v and not str(k).startswith("hydra")
    }
    overrides = OmegaConf.to_container(hydra.overrides.task)
    assert isinstance(overrides, list)
    job = RunRequest(
        config=values,
        folder=Path(hydra.runtime.output_dir),
        overrides=list(map(str, overrides)),
        choices=choices,
        # A single run also pays for the imports; a sweep's job may share them with others.
        started=STARTED if hydra.mode == RunMode.RUN else time.perf_counter(),
        trial=trial_of(hydra, values["trainer"]["epochs"]),
    )
    record = run(job)
    if record.status == "interrupted":
        raise SystemExit(INTERRUPTED_CODE)
    return record.objective.get("value")


def run(job: RunRequest) -> RunRecord:
    """Train, choose by validation, test once, write the record; from a checkpoint on where it is resumed.

    Raises:
        UserError: something the user can mend; the record then says `failed`, and why.
    """
    build.check_devices(job.config)
    check_layout(job.config["trainer"])
    here = place()
    held_elsewhere = follows() or (here is not None and here.is_ours)
    alone = FolderLock(job.folder, what="another run", remedy="choose another hydra.run.dir=<folder>")
    with contextlib.nullcontext() if held_elsewhere else alone:
        if here is None and needs_group(job.config):
            build.build_data(job.config)  # download or decode once, before several processes want it
            return launch_group(job)
        had_group, training = has_group(), Training(job)
        record, together = training.run(), training.ended_together
        del training  # whose network and trainer would keep the group
        if together and not had_group:
            leave_group()
        return record
