"""Reproduce a record and compare the two: `python src/reproduce.py logs/latest`.

Exit code: 0 identical, 3 equal within the tolerance, 4 different, 1 could not be run or compared.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tempo.command_line.script import script
from tempo.command_line.start_up import importing

if TYPE_CHECKING:
    from omegaconf import DictConfig


@script("reproduce")
def main(config: DictConfig) -> None:
    """Train as the record says; compare configuration, data, versions, weights, metrics and curves."""
    # torch takes seconds to import, so it waits until the folder is known to hold a record.
    with importing("tempo.run.reproduce"):
        from tempo.run.reproduce import reproduce_from_hydra

    sys.exit(reproduce_from_hydra(config))


if __name__ == "__main__":
    main()
