"""Watch memory and open files of a long run and of many jobs: `python benchmarks/endurance.py`.

One run takes `--steps` optimizer steps, with a validation and a checkpoint every 20; one sweep runs `--jobs`
jobs one after the other in its own process (the default launcher). Both are watched from outside, in /proc,
twenty times a second. Growth is the slope of a least-squares line through the last three quarters. `--folder`
is the folder of the record and the figure.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from measurement import ROOT, stamp
from victims import Victim, preload, rows

from tempo.record.atomic_write import write_atomically

TINY = ("model=mlp", "trainer=cpu", "trainer.threads=1")
LONG = (*TINY, "data.train_size=640", "data.total_batch_size=32", "scheduler=onecycle", "optimizer.lr=0.01")
SHORT = (*TINY, "data.train_size=320", "trainer.max_steps=8", "hydra.sweeper.report=false")
_LOOK_SECONDS = 0.05
_POINTS = 150
_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") / 1024


def watch(arguments: Sequence[str], done: Callable[[], int], console: Path) -> dict[str, list[float]]:
    """Sample a command's process while it runs: `done`, `rss_mib`, `open_files`, `threads`."""
    found: dict[str, list[float]] = {name: [] for name in ("done", "rss_mib", "open_files", "threads")}
    victim = Victim(arguments, console)
    process = Path("/proc") / str(victim.process)
    while not victim.is_over():
        try:
            sample = (
                done(),
                int((process / "statm").read_text().split()[1]) * _PAGE_KIB / 1024,
                len(list((process / "fd").iterdir())),
                len(list((process / "task").iterdir())),
            )
        except OSError:  # it has ended
            continue
        if sample[1]:  # a process that has ended has no memory
            for values, value in zip(found.values(), sample, strict=True):
                values.append(value)
        time.sleep(_LOOK_SECONDS)
    if victim.code:
        raise RuntimeError(f"exit code {victim.code}: {console.read_text(encoding='utf-8')[-2000:]}")
    return found


def growth(found: dict[str, list[float]], per: int) -> dict[str, Any]:
    """Return slopes after the first quarter, per `per` steps or jobs, and the largest values there."""
    done = np.array(found["done"])
    here = (done >= done.max() / 4) & (done < done.max())
    quarter = {name: np.array(values)[here] for name, values in found.items()}
    slope = {name: float(np.polyfit(quarter["done"], quarter[name], 1)[0]) for name in quarter}
    return {
        "done": int(done.max()),
        "per": per,
        "rss_kib": round(1024 * per * slope["rss_mib"], 2),
        "open_files": round(per * slope["open_files"], 4),
        "threads": round(per * slope["threads"], 4),
        "largest_rss_mib": round(float(quarter["rss_mib"].max())),
        "largest_open_files": int(quarter["open_files"].max()),
        "largest_threads": int(quarter["threads"].max()),
        "samples": int(here.sum()),
    }


def draw(studies: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Draw memory above and open files below, against steps or jobs done."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots(2, len(studies), sharex="col", squeeze=False)
    for column, (name, found) in enumerate(studies.items()):
        for row, (key, label) in enumerate((("rss_mib", "memory (MiB)"), ("open_files", "open files"))):
            axis = axes[row, column]
            axis.plot(found["done"], found[key], linewidth=1)
            axis.set_ylim(0, 1.15 * max(found[key]))
            axis.grid(alpha=0.3)
            if column == 0:
                axis.set_ylabel(label)
        axes[1, column].set_xlabel(name)
    figure.savefig(path, dpi=80)


def thinned(found: dict[str, list[float]]) -> dict[str, list[float]]:
    """Keep about `_POINTS` evenly spaced samples."""
    every = max(1, len(found["done"]) // _POINTS)
    return {name: [round(value, 1) for value in values[::every]] for name, values in found.items()}


def main() -> None:
    """Read the command line, measure, write record and figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=ROOT / "logs" / "endurance")
    arguments = parser.parse_args()
    preload()
    begun = Path(tempfile.mkdtemp(prefix="tempo-endurance-"))
    run, sweep = begun / "run", begun / "sweep"
    long = [*LONG, f"trainer.max_steps={arguments.steps}", "trainer.log_every_n_steps=10"]
    short = [*SHORT, f"seed=range(0,{arguments.jobs})", "-m", f"hydra.sweep.dir={sweep}"]
    # A row every 10 steps and one for each validation, which comes every 20.
    steps = watch([*long, f"hydra.run.dir={run}"], lambda: 20 * (rows(run) // 3), begun / "run.txt")
    jobs = watch(short, lambda: len(list(sweep.glob("*/curves.png"))), begun / "sweep.txt")
    record = {
        **stamp(f"python benchmarks/endurance.py --steps {arguments.steps} --jobs {arguments.jobs}"),
        "steps": growth(steps, per=1000) | {"overrides": long},
        "jobs": growth(jobs, per=1) | {"overrides": short[:-1]},
        "samples": {"steps": thinned(steps), "jobs": thinned(jobs)},
    }
    arguments.folder.mkdir(parents=True, exist_ok=True)
    write_atomically(arguments.folder / "record.json", json.dumps(record) + "\n")
    draw({"optimizer steps of one run": steps, "jobs in one process": jobs}, arguments.folder / "growth.png")
    for name in ("steps", "jobs"):
        print(name, record[name])
    shutil.rmtree(begun)


if __name__ == "__main__":
    main()
