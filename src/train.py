"""Train a network and record the run: `python src/train.py model=densenet40 scheduler=onecycle`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tempo.command_line.script import script
from tempo.command_line.start_up import importing

if TYPE_CHECKING:
    from omegaconf import DictConfig


@script("train")
def main(config: DictConfig) -> float | None:
    """Train as `conf/train.yaml` and the overrides say; return the objective for a sweep."""
    # torch takes seconds to import, so it waits until the configuration is checked.
    with importing("tempo.run.train"):
        from tempo.run.train import run_from_hydra

    return run_from_hydra(config)


if __name__ == "__main__":
    main()
