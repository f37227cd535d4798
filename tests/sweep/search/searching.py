"""A search whose jobs are a function in place of training: everything else is what a user starts."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from tempo.config.resolve_interpolations import plain
from tempo.paths import register_resolvers
from tempo.record.run_json import FILE_NAME, RunRecord, config_hash
from tempo.trainer.optuna_trial import Reporting, trial_of
from tests.jobs import CONF

RUNS = ".runs"
"""Ending of a file next to the folder of a job, with a line for each time that it ran."""
Job = Callable[[DictConfig], Any]


def search(folder: Path, job: Job, arguments: Sequence[str], *settings: str) -> list[Any]:
    """Run `src/train.py hydra/sweeper=search <settings> -m <arguments>` with `job` as the task."""
    register_resolvers()
    OmegaConf.register_new_resolver("run_folder", lambda *_: "unused", replace=True)
    shared = [f"hydra.sweep.dir={folder}", "hydra.sweeper.report=false", "model=mlp"]
    given = ["hydra/sweeper=search", *shared, *settings]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        config = hydra.compose_config("train", given, run_mode=RunMode.MULTIRUN)
        context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks())
        sweeper: Any = Plugins.instance().instantiate_sweeper(
            config=config, hydra_context=context, task_function=job
        )
        return list(sweeper.sweep(["model=mlp", *arguments]))


def distance(config: DictConfig) -> float:
    """Return an accuracy: 1 at lr = 1e-2, and 0 from a decade away."""
    return max(0.0, 1 - abs(math.log10(config.optimizer.lr) + 2))


def run(config: DictConfig, status: str = "completed", cut: str = "") -> float | None:
    """Do what a run does for a search; `cut` is where it is killed: early, late or recorded."""
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    with folder.with_name(folder.name + RUNS).open("a", encoding="utf-8") as file:
        file.write("ran\n")
    if cut == "early":
        os.kill(os.getpid(), signal.SIGKILL)
    values = plain(config)
    record = RunRecord(
        config=values, config_hash=config_hash(values), overrides=list(hydra.overrides.task), seed=0
    )
    record.write(folder)
    epochs = values["trainer"]["epochs"]
    trial = trial_of(hydra, epochs)
    assert trial is not None
    reporting, value = Reporting(trial), distance(config)
    for epoch in range(1, epochs + 1):
        if reporting.report(epoch, value * epoch / epochs) and epoch < epochs:
            status = "pruned"
            break
        if cut == "late" and epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    reporting.close()
    record.status, record.reason = status, f"so it {status}"
    record.objective = {"name": "val/accuracy", "value": value if status == "completed" else math.nan}
    record.write(folder)
    if cut == "recorded":
        os.kill(os.getpid(), signal.SIGKILL)
    return value


def kill_at(folder: str, arguments: Sequence[str], settings: Sequence[str], cut: str, nth: int) -> None:
    """Search in this process, and kill it in its nth run."""

    def job(config: DictConfig) -> Any:
        runs = len(list(Path(folder).glob(f"*{RUNS}")))
        return run(config, cut=cut if runs == nth - 1 else "")

    search(Path(folder), job, arguments, *settings)


def times_run(folder: Path) -> dict[str, int]:
    """Return how often each job ran, by the name of its folder."""
    files = sorted(folder.glob(f"*{RUNS}"))
    return {path.name.removesuffix(RUNS): path.read_text().count("\n") for path in files}


def statuses(folder: Path) -> list[str]:
    """Return the status of each record."""
    return [RunRecord.read(path.parent).status for path in sorted(folder.glob(f"*/{FILE_NAME}"))]
