"""Measure a report and its page in Chromium: `python benchmarks/report_page.py [--rounds 5]`.

build    `src/report.py` of 50, 100 and 200 runs, from the command to its end. The runs are the demo's record
         with other weight decays and seeds, its curves, and 24 wrong images of noise, which PNG cannot
         shrink.
page     size of the page of 200 runs, its first paint (the charts are drawn by then), and how long it needs
         to draw everything again after a filter, after a click on the box of a line and with other smoothing.

The browser is the one that the tests use, with an empty cache and one page. The record goes to
docs/results/report_page.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from measurement import ROOT, Row, add_section, new_table, stamp
from rich.console import Console

sys.path.insert(0, str(ROOT))

import torch
from sweeps import command, seconds_of

from tempo.record.atomic_write import write_atomically
from tempo.record.run_json import RunRecord, config_hash
from tempo.record.test_images import ClassifiedImages, WrongImage
from tempo.task.wrong_images import png_of
from tests.report.chromium import Chromium, installed

SIZES = (50, 100, 200)
GOALS = {f"build_{SIZES[-1]}": 10.0, "page_size": 10.0, "first_paint": 2000.0}
PICTURES = 24
FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
DRAW_AGAIN = {
    "filter": "page.setFilter('seed == 0')",
    "toggle": "document.querySelector('#groups input').click()",
    "smoothing": "curveOptions.smoothing = 0.6, changed()",
}


def write_runs(folder: Path, n: int) -> None:
    """Write `n` runs of `n / 2` weight decays and 2 seeds, with the curves and sizes of real ones."""
    source = ROOT / "docs" / "results" / "demo" / "seed=0"
    generator = torch.Generator().manual_seed(0)
    for number in range(n):
        decay, seed = 1e-6 * 1.1 ** (number // 2), number % 2
        record = RunRecord.read(source)
        record.config["optimizer"]["wd"], record.config["seed"], record.seed = decay, seed, seed
        record.config_hash = config_hash(record.config)
        record.overrides = ["model=densenet40", f"optimizer.wd={decay:g}", f"seed={seed}"]
        record.metrics["val"]["accuracy"] -= 1e-4 * (number % 7)
        run = folder / f"wd={decay:g},seed={seed}"
        run.mkdir(parents=True)
        record.write(run)
        (run / "metrics.csv").write_bytes((source / "metrics.csv").read_bytes())
        noise = torch.randint(0, 256, (PICTURES, 3, 32, 32), generator=generator, dtype=torch.uint8)
        wrong = [WrongImage(0, 1, 0.5, png_of(image)) for image in noise]
        confusion = [[true, predicted, 5] for true in range(10) for predicted in range(10)]
        ClassifiedImages(list("0123456789"), confusion, wrong).write(run)


def page_values(page: Path, profile: Path) -> dict[str, float]:
    """Open the page in a new browser; return milliseconds by the name of the row."""
    program = installed()
    if program is None:
        sys.exit("no browser is installed; .ci/browser installs one")
    with Chromium(program, profile) as browser:
        browser.size(1280, 1000)
        browser.open(page.resolve().as_uri())
        found = {"first_paint": float(browser.value(FIRST_PAINT))}
        assert browser.value("document.querySelectorAll('#curves svg').length") > 0
        for name, action in DRAW_AGAIN.items():
            browser.value(action)
            browser.settle()
            begin, end = "const begin = performance.now()", "return performance.now() - begin"
            found[name] = float(browser.value(f"(() => {{ {begin}; {action}; drawAll(); {end}; }})()"))
            browser.settle()
        assert browser.console == []
    return found


def measure(rounds: int) -> list[Row]:
    """Measure every row in every round."""
    found: dict[str, list[float]] = {}
    units = {"page_size": "MB", **dict.fromkeys(("first_paint", *DRAW_AGAIN), "ms")}
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        for size in SIZES:
            write_runs(top / f"runs{size}", size)
        for number in range(rounds):
            values = {
                f"build_{size}": seconds_of(command("report.py", str(top / f"runs{size}"))) for size in SIZES
            }
            page = top / f"runs{SIZES[-1]}" / "report" / "report.html"
            values["page_size"] = page.stat().st_size / 1e6
            values |= page_values(page, top / f"profile{number}")
            for row, value in values.items():
                found.setdefault(row, []).append(value)
            print(f"round {number + 1}/{rounds}", values, flush=True)
    return [Row(row, units.get(row, "s"), of, at_most=GOALS.get(row)) for row, of in found.items()]


def main() -> None:
    """Measure, print the table, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    load, rows = os.getloadavg()[0], measure(rounds)
    record = {
        **stamp(f"python benchmarks/report_page.py --rounds {rounds}"),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": load,
        "rounds": rounds,
        "rows": {row.name: row.to_json() for row in rows},
    }
    folder = ROOT / "docs" / "results" / "report_page"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "record.json", json.dumps(record, indent=2) + "\n")
    table = new_table("of one thread each")
    add_section(table, "report_page", rows)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
