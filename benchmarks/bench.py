"""Measure how long Python keeps a network waiting: `make bench`, or `make bench ARGS="resnet loader"`.

Every ratio is taken within a round, side by side or in alternation. The table shows medians and ranges.
Each section leaves docs/results/bench/SECTION/record.json, which `benchmarks/figures.py` quotes.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import warnings
from typing import Any

import command_line
import layouts
import memory
import own_module
import stores
import torch
import training
from measurement import ROOT, Row, Section, add_section, new_table, stamp
from rich.console import Console

from tempo.record.atomic_write import write_atomically

SECTIONS: list[Section] = [
    section
    for part in (training, own_module, stores, command_line, memory, layouts)
    for section in part.SECTIONS
]
FOLDER = ROOT / "docs" / "results" / "bench"


def main() -> None:
    """Measure, print, and write the records."""
    names = [section.name for section in SECTIONS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(names)}; none = all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-record", action="store_true", help="only print")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.sections) - set(names)):
        parser.error(f"there is no section {', '.join(unknown)}; choose from {', '.join(names)}")
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    table = new_table(f"{torch.get_num_threads()} threads")
    for section in SECTIONS:
        if not arguments.sections or section.name in arguments.sections:
            load = os.getloadavg()[0]
            print(f"{section.name}: {section.protocol}", flush=True)
            rows = section.measure(arguments.rounds)
            add_section(table, section.name, rows)
            if not arguments.no_record:
                write(section, rows, arguments.rounds, load)
    Console(width=120).print(table)


def write(section: Section, rows: list[Row], rounds: int, load: float) -> None:
    """Write the record of a section."""
    record: dict[str, Any] = {
        **stamp(" ".join(["python benchmarks/bench.py", *sys.argv[1:]])),
        "protocol": section.protocol,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": load,
        "rounds": rounds,
        "rows": {row.name: row.to_json() for row in rows},
    }
    folder = FOLDER / section.name
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "record.json", json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
