"""What `src/lr_range.py` does: an ordinary run, then what its curve says."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from tempo.config.resolve import plain
from tempo.run.train import run_from_hydra
from tempo.tuning.range_figure import draw
from tempo.tuning.range_test import analyse, text_of, use_it, write_json


def run_range_test(config: DictConfig) -> float | None:
    """Run the job that Hydra composed; outside of a sweep, say what its curve says."""
    values = plain(config)
    objective = run_from_hydra(config)
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.RUN and not values["preview"]:
        conclude(Path(hydra.runtime.output_dir))
    return objective


def conclude(folder: Path) -> None:
    """Analyse the runs in a folder, write JSON and picture, print what they say and how to use it.

    Raises:
        UserError: no run there came to a result.
    """
    result = analyse(folder)
    path = write_json(result)
    print(text_of(result))
    print(f"files     {path}, {draw(result)}")
    if result.best is not None:
        print(f"use it    {use_it(folder)}")
