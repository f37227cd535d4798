"""Jobs whose model and data are a user's, in this process or in one that may be killed."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tempo.config.check import check
from tempo.config.schema import RunConfig
from tempo.record.run_json import RunRecord
from tempo.run.run_request import RunRequest
from tempo.run.train import run
from tests.conftest import Trained
from tests.jobs import compose_job, finish, fork_server


def own_config(model: Any, data: Any, *overrides: str) -> RunConfig:
    """The configuration of a job whose model and data are nodes of a user."""
    fixed = ["trainer=cpu", "trainer.threads=1", "trainer.log_every_n_steps=7", "trainer.epochs=3"]
    values, _ = compose_job([*fixed, "data.total_batch_size=16", *overrides])
    common = {key: values["data"][key] for key in values["data"] if key not in ("_target_", "train_images")}
    data = {"_target_": f"tests.own_modules.{data}"} if isinstance(data, str) else data
    model = {"_target_": f"tests.own_modules.{model}"} if isinstance(model, str) else model
    return check({**values, "model": model, "data": {**common, **data} if data else values["data"]})


def run_own(folder: Path, model: Any, data: Any, *overrides: str, stop_after: int | None = None) -> Trained:
    """Train in a folder; resume the run that is there."""
    folder.mkdir(exist_ok=True)
    more = [f"resume={folder}"] if (folder / "run.json").exists() else []
    config = own_config(model, data, *overrides, *more)
    request = RunRequest(config=config, folder=folder, overrides=[], choices={}, stop_after=stop_after)
    return Trained(folder, run(request))


def run_own_on_ranks(
    folder: Path, model: Any, data: Any, *overrides: str, stop_after: int | None = None
) -> Trained:
    """Do the same on two ranks, as torchrun would start them, but forked from a server that holds torch."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    group = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    group |= {"TORCHELASTIC_RUN_ID": port, **os.environ}  # the server has the environment of its own start
    two = ("trainer=ddp_cpu", "trainer.devices=2", *overrides)
    folder.mkdir(exist_ok=True)
    ranks = [
        fork_server().Process(
            target=_rank,
            args=(str(folder), model, data, two, group | {"RANK": rank, "LOCAL_RANK": rank}, stop_after),
        )
        for rank in ("0", "1")
    ]
    for rank in ranks:
        rank.start()
    assert [finish(rank) for rank in ranks] == [0, 0]
    return Trained(folder, RunRecord.read(folder))


def _rank(
    folder: str,
    model: Any,
    data: Any,
    overrides: Sequence[str],
    environment: Mapping[str, str],
    stop_after: int | None,
) -> None:
    os.environ.update(environment)
    run_own(Path(folder), model, data, *overrides, stop_after=stop_after)


def train_in_child(
    folder: str, model: Any, data: Any, overrides: Sequence[str], environment: Mapping[str, str]
) -> None:
    """Do the same as the target of a process."""
    os.environ.update(environment)
    # As in a run of a user: workers that the fork server starts would outlive the kill.
    multiprocessing.set_start_method("fork", force=True)
    run_own(Path(folder), model, data, *overrides)
