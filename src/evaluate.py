"""Test a finished run with its own configuration: `python src/evaluate.py logs/latest`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tempo.command_line.script import script
from tempo.command_line.start_up import importing

if TYPE_CHECKING:
    from omegaconf import DictConfig


@script("evaluate")
def main(config: DictConfig) -> None:
    """Rebuild the run's network, load its state, test it, and compare with the record."""
    # torch takes seconds to import, so it waits until the configuration is checked.
    with importing("tempo.run.evaluate"):
        from tempo.run.evaluate import evaluate_from_hydra

    evaluate_from_hydra(config)


if __name__ == "__main__":
    main()
