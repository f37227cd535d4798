"""Measure images per second: `python src/scale.py model.name=vgg16 scaling.workers=[1,2]`.

`python src/scale.py predict ...` predicts the speed of up to 1,024 workers from this machine's measurements.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tempo.command_line.script import script
from tempo.command_line.start_up import importing

if TYPE_CHECKING:
    from omegaconf import DictConfig


@script("scaling")
def run(config: DictConfig) -> None:
    """Measure every network, method and number of workers, and report them."""
    # torch takes seconds to import, so it waits until the configuration is checked.
    with importing("tempo.scaling.benchmark"):
        from tempo.scaling.benchmark import run_from_hydra

    run_from_hydra(config)


def main() -> None:
    """Run the benchmark, accepting `predict` as the first word."""
    if sys.argv[1:2] == ["predict"]:
        sys.argv[1] = "scaling.predict=true"
    run()


if __name__ == "__main__":
    main()
