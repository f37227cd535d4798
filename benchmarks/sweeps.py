"""Measure what a sweep costs besides its jobs: `python benchmarks/sweeps.py [--rounds 5]`, about 6 minutes.

start    `-m seed=range(500)` of a job of one step, from the command to the first job's record: all 500 are
         composed and checked by then.
jobs     8 jobs of cnn3 on digits with all defaults (20 epochs), one thread each: `hydra/launcher=local` with
         n_jobs=2 against Hydra's own basic launcher, in alternation; the report at the end is paid by both.

Every figure is the time of a whole command, imports included; medians, smallest and largest are printed. The
record goes to docs/results/sweeps.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from measurement import ROOT, Row, add_section, new_table, ratio, stamp
from rich.console import Console

from tempo.record.atomic_write import write_atomically

N_CONFIGURED = 500
N_JOBS = 8
GOALS = {f"start_{N_CONFIGURED}": 10.0}
LOCAL_OVER_BASIC = 1.5
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
ENVIRONMENT.pop("PYTHONDONTWRITEBYTECODE", None)  # a user's Python keeps what it has compiled


def command(script: str, *arguments: str) -> list[str]:
    """Return a script's command as a user gives it."""
    return [sys.executable, str(ROOT / "src" / script), *arguments]


def seconds_of(arguments: list[str]) -> float:
    """Return the wall-clock time of a command that must succeed."""
    begin = time.perf_counter()
    subprocess.run(arguments, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def start_seconds(folder: Path) -> float:
    """Measure from the command to the record of the first of 500 jobs, then kill the sweep."""
    grid = [f"seed=range({N_CONFIGURED})", "model=mlp", "debug=fast_dev_run", f"hydra.sweep.dir={folder}"]
    begin = time.perf_counter()
    process = subprocess.Popen(
        command("train.py", "-m", *grid),
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not (folder / "seed=0" / "run.json").exists():
            if process.poll() is not None:
                raise RuntimeError(f"the sweep ended with exit code {process.returncode}")
            time.sleep(0.01)
        return time.perf_counter() - begin
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def jobs_seconds(folder: Path, *launcher: str) -> float:
    """Measure eight jobs, from the command to the report."""
    grid = ("model=cnn3", "trainer=cpu", "trainer.threads=1", f"seed=range({N_JOBS})")
    return seconds_of(command("train.py", "-m", *grid, *launcher, f"hydra.sweep.dir={folder}"))


def measure(rounds: int) -> dict[str, list[float]]:
    """Measure the seconds of each row, one value per round; the rows alternate."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        for number in range(rounds):
            rows: dict[str, Callable[[], float]] = {
                f"start_{N_CONFIGURED}": lambda: start_seconds(top / f"start{number}"),  # noqa: B023
                "jobs_local": lambda: jobs_seconds(
                    top / f"local{number}",  # noqa: B023
                    "hydra/launcher=local",
                    "hydra.launcher.n_jobs=2",
                ),
                "jobs_basic": lambda: jobs_seconds(top / f"basic{number}", "hydra/launcher=basic"),  # noqa: B023
            }
            for row, function in rows.items():
                found.setdefault(row, []).append(function())
                print(f"round {number + 1}/{rounds}  {row}: {found[row][-1]:.1f} s", flush=True)
    return found


def rows_of(found: dict[str, list[float]]) -> list[Row]:
    """Return seconds, jobs per minute of both launchers and their ratio round by round."""
    rows = [Row(name, "s", values, at_most=GOALS.get(name)) for name, values in found.items()]
    per_minute = {
        launcher: [60 * N_JOBS / seconds for seconds in found[f"jobs_{launcher}"]]
        for launcher in ("local", "basic")
    }
    rows += [Row(f"jobs_per_minute_{name}", "jobs/min", values) for name, values in per_minute.items()]
    rows.append(
        ratio("local_over_basic", per_minute["local"], per_minute["basic"], at_least=LOCAL_OVER_BASIC)
    )
    return rows


def main() -> None:
    """Measure, print the table, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    load, rows = os.getloadavg()[0], rows_of(measure(rounds))
    record = {
        **stamp(f"python benchmarks/sweeps.py --rounds {rounds}"),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": load,
        "rounds": rounds,
        "rows": {row.name: row.to_json() for row in rows},
    }
    folder = ROOT / "docs" / "results" / "sweeps"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "record.json", json.dumps(record, indent=2) + "\n")
    table = new_table("of one thread each")
    add_section(table, "sweeps", rows)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
