"""How long Python keeps a network waiting: `make bench`, or `python benchmarks/bench.py [--jobs cnn]`.

Protocol: all ways of a job run in one process, one after the other, `--rounds` times in alternation; the
first epoch (or five steps) of each is warm-up and not counted; ratios are taken within a round. Printed:
medians, and the smallest and largest ratio. The record goes to docs/results/bench/bench.json.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import statistics
import warnings
from datetime import datetime, timezone

import torch
from jobs import JOBS, ROOT, WAYS, BenchJob
from rich.console import Console
from rich.table import Table

from tempo.environment import cpu_name, git_state, versions
from tempo.record import write_atomically


def measure(job: BenchJob, rounds: int) -> dict[str, list[float]]:
    """Images per second of each way, a list of `rounds` values."""
    config = job.config()
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(rounds):
        for way, function in WAYS.items():
            found[way].append(function(config))
        print(
            f"{job.name} {number + 1}/{rounds}: " + ", ".join(f"{w} {v[-1]:,.0f}" for w, v in found.items())
        )
    return found


def ratios(found: dict[str, list[float]], below: str) -> dict[str, float]:
    """Ratio of tempo to another way: median, smallest and largest over the rounds."""
    each = [a / b for a, b in zip(found["tempo"], found[below], strict=True)]
    return {"median": statistics.median(each), "min": min(each), "max": max(each)}


def main() -> None:
    """Measure, print the table, write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", nargs="*", default=[job.name for job in JOBS])
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    rows = []
    for job in JOBS:
        if job.name in arguments.jobs:
            found = measure(job, arguments.rounds)
            goals = {"raw": job.tempo_over_raw, "conventional": job.tempo_over_conventional}
            rows.append(
                {
                    "job": job.name,
                    "overrides": list(job.overrides),
                    "images_per_second": found,
                    "tempo_over": {way: ratios(found, way) for way in ("raw", "conventional")},
                    "goal": goals,
                }
            )
    record = {
        "command": "python benchmarks/bench.py",
        "measured_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": cpu_name(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "versions": versions(),
        "git": git_state()[0],
        "rounds": arguments.rounds,
        "rows": rows,
    }
    show(record)
    folder = ROOT / "docs" / "results" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "bench.json", json.dumps(record, indent=2) + "\n")


def show(record: dict) -> None:
    """The table, under its protocol."""
    title = (
        f"images per second, median of {record['rounds']}: {record['device']}, {record['threads']} threads"
    )
    table = Table(title=title, caption="ratios within a round: median (smallest .. largest), goal")
    for column in ("job", *WAYS, "tempo / raw", "tempo / conventional"):
        table.add_column(column, justify="left" if column == "job" else "right")
    for row in record["rows"]:
        speeds = [f"{statistics.median(values):,.0f}" for values in row["images_per_second"].values()]
        words = []
        for way in ("raw", "conventional"):
            ratio, goal = row["tempo_over"][way], row["goal"][way]
            text = f"{ratio['median']:.2f} ({ratio['min']:.2f} .. {ratio['max']:.2f})"
            words.append(text + (f", {goal}" if goal else ""))
        table.add_row(row["job"], *speeds, *words)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
