"""Run a record again and compare: `python src/reproduce.py logs/latest`.

Exit code: 0 identical, 3 the same within the tolerance, 4 different, 1 it could not be run or compared.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from tempo.command_line import script
from tempo.run_folder import quoted


@script("reproduce")
def run(config: DictConfig) -> None:
    """Train as the record says, compare configuration, data, versions, weights, metrics and curves."""
    # torch takes seconds to import: only a folder that holds a record gets here.
    from tempo.reproduce import reproduce_from_hydra

    sys.exit(reproduce_from_hydra(config))


def main() -> None:
    """Let the folder stand alone on the command line."""
    sys.argv[1:] = named(sys.argv[1:])
    run()


def named(arguments: Sequence[str]) -> list[str]:
    """`<folder>` as `run='<folder>'`; a sweep's folders have `=` in their names, as overrides have."""
    first, *others = arguments or ("",)
    is_override = re.match(r"[\w.+~]+=", first) and not Path(first).expanduser().exists()
    if not first or first.startswith("-") or is_override:
        return list(arguments)
    return [f"run={quoted(first)}", *others]


if __name__ == "__main__":
    main()
