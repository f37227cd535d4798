"""How long Python keeps a network waiting: `make bench`; parts of it: `make bench ARGS="resnet loader"`.

Every ratio is taken within a round, side by side or in alternation. Printed: medians, smallest and largest.
Each section leaves docs/results/bench/SECTION/record.json, which `benchmarks/figures.py` quotes.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import warnings
from datetime import datetime, timezone
from typing import Any

import allocation
import command_line
import growth
import layouts
import loading
import memory
import torch
import training
from jobs import ROOT
from rich.console import Console
from rows import Row, Section
from table import add, new_table

from tempo.record.atomic_write import write_atomically
from tempo.record.environment import cpu_name, git_state, versions

SECTIONS: list[Section] = [
    each
    for part in (training, loading, command_line, memory, growth, layouts, allocation)
    for each in part.SECTIONS
]
FOLDER = ROOT / "docs" / "results" / "bench"


def main() -> None:
    """Measure, print, and write the records."""
    names = [each.name for each in SECTIONS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(names)}; none = all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-record", action="store_true", help="only print")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.sections) - set(names)):
        parser.error(f"no section {', '.join(unknown)}: there are {', '.join(names)}")
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    table = new_table(f"{torch.get_num_threads()} threads")
    for section in SECTIONS:
        if not arguments.sections or section.name in arguments.sections:
            load = os.getloadavg()[0]
            print(f"{section.name}: {section.protocol}", flush=True)
            rows = section.measure(arguments.rounds)
            add(table, section.name, rows)
            if not arguments.no_record:
                write(section, rows, arguments.rounds, load)
    Console(width=120).print(table)


def write(section: Section, rows: list[Row], rounds: int, load: float) -> None:
    """The record of a section."""
    record: dict[str, Any] = {
        "command": " ".join(["python benchmarks/bench.py", *sys.argv[1:]]),
        "protocol": section.protocol,
        "measured_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": load,
        "versions": versions(),
        "git": git_state()[0],
        "rounds": rounds,
        "rows": {row.name: row.to_json() for row in rows},
    }
    folder = FOLDER / section.name
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "record.json", json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
