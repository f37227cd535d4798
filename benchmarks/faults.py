"""Kill runs at random moments, resume them, and compare: `python benchmarks/faults.py [--runs 100]`.

Each run is a `python src/train.py ...` that is ended one to three times, by SIGKILL, SIGTERM or Ctrl-C
(SIGINT), at a moment drawn from `--seed`: any time since its start, before its first row of metrics, while it
writes a checkpoint or its record, after a row of metrics, or at its very end. Then
`python src/train.py resume=<folder>` resumes it (a sweep is rerun). `identical` counts the runs with the same
weights, metrics, rows of metrics.csv (without the column of seconds), TensorBoard curves and checkpoints as a
run that was never stopped; `lost` counts those that could not be resumed. `left_processes` counts the stops
after which a process of the run was still there 10 s later.

`--record` is the path of the record. It is written after each run, and a record of the same command and
commit is continued, so the runs may be spread over several sittings.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fault_record import COUNTED, Tally, earlier, summary
from fault_variants import VARIANTS, Variant
from measurement import ROOT, stamp
from victims import (
    Victim,
    adopt_orphans,
    first_difference,
    left_processes,
    outcome,
    preload,
    rows,
    unfinished,
)

from tempo.errors import UserError
from tempo.record.atomic_write import write_atomically
from tempo.record.run_json import FILE_NAME, RunRecord

MOMENTS = (
    *("any time", "before the first row") * 2,
    *("a file is written", "after a row", "after the last row"),
)


@dataclass(frozen=True)
class Reference:
    """Outcome of a command that was never stopped."""

    seconds: float
    first_row_seconds: float
    """From the start to the first row of metrics.csv."""
    rows: int
    outcomes: list[dict[str, Any]]


def moment(
    rng: random.Random, runs: Sequence[Path], reference: Reference, began: float
) -> tuple[str, Callable[[], bool]]:
    """Draw a moment; return its name and a function that says whether it has come."""
    kind = rng.choice(MOMENTS)
    if kind in ("any time", "before the first row"):
        longest = reference.first_row_seconds if kind == "before the first row" else 1.1 * reference.seconds
        after = rng.uniform(0, longest)
        return kind, lambda: time.monotonic() - began >= after
    if kind == "a file is written":
        left, seen = rng.randrange(1, 16), [False]

        def is_written() -> bool:
            nonlocal left
            now = any(unfinished(run) for run in runs)
            left -= now and not seen[0]
            seen[0] = now
            return left <= 0 and now

        return kind, is_written
    at = reference.rows - 1 if kind == "after the last row" else rng.randrange(1, reference.rows)
    delay, come = rng.uniform(0, 0.3 * reference.seconds if kind == "after the last row" else 0.02), [0.0]

    def is_after() -> bool:
        come[0] = come[0] or time.monotonic() * (sum(map(rows, runs)) >= at)
        return bool(come[0]) and time.monotonic() >= come[0] + delay

    return kind, is_after


def next_arguments(variant: Variant, folder: Path) -> list[str]:
    """Return the arguments that resume what was stopped, or start it if there is nothing to resume."""
    asked = (folder / FILE_NAME).exists() or (folder / ".hydra" / "overrides.yaml").exists()
    return [f"resume={folder}"] if variant.jobs == ("",) and asked else variant.arguments(folder)


def is_over(runs: Sequence[Path]) -> bool:
    """Whether all runs have a result."""
    with contextlib.suppress(UserError):
        return all(RunRecord.read(run).finished for run in runs)
    return False


def stop_and_resume(
    variant: Variant, folder: Path, reference: Reference, rng: random.Random, tally: Tally
) -> str:
    """Stop a run one to three times, resume it to its end, and return what is wrong, or ""."""
    runs = [folder / job for job in variant.jobs]
    console = folder.with_suffix(".txt")
    stops, stopped = rng.choice((1, 1, 1, 2, 3)), 0
    while stopped < stops and not is_over(runs):
        number = rng.choice((signal.SIGKILL,) * 5 + (signal.SIGTERM, signal.SIGINT))
        before = [_sessions(run) for run in runs]
        victim = Victim(next_arguments(variant, folder), console)
        name, reached = moment(rng, runs, reference, victim.began)
        if victim.signal_when(reached, number):
            stopped += 1
            code = victim.finish()
            tally.signals[number.name] += 1
            tally.moments[name] += 1
            tally.inside_a_write += any(unfinished(run) for run in runs)
            if left := left_processes():
                tally.left_processes += 1
                return f"{number.name} left processes: {left}"
            begun = [run for run, count in zip(runs, before, strict=True) if _sessions(run) > count]
            reason = _unclean_stop(code, number, begun, variant.jobs != ("",))
            if reason and number != signal.SIGKILL:
                return reason
    if not stopped:
        return ""
    tries = 0
    while not is_over(runs) and tries < 3:
        tries += 1
        code = Victim(next_arguments(variant, folder), console).finish()
    if not is_over(runs):
        tally.lost += 1
        return f"lost, exit code {code}: {console.read_text(encoding='utf-8').splitlines()[-1:]}"
    tally.resumed += 1
    for run, expected in zip(runs, reference.outcomes, strict=True):
        if difference := first_difference(outcome(run), expected):
            return f"{run.name}: {difference}"
    tally.identical += 1
    return ""


def _sessions(run: Path) -> int:
    """Return the number of processes that have written the record so far."""
    with contextlib.suppress(UserError):
        return len(RunRecord.read(run).sessions)
    return 0


def _unclean_stop(code: int, number: signal.Signals, begun: Sequence[Path], is_sweep: bool) -> str:
    """Return what is wrong with the end of a run on SIGTERM or SIGINT: it must be `interrupted`, code 130."""
    # A sweep whose job was ended has a job without a result, which is code 1.
    if code not in (0, 130, -number) and not (is_sweep and code == 1):
        return f"{number.name} ended it with exit code {code}"
    if code == 130 and any(RunRecord.read(run).status == "running" for run in begun):
        return f"{number.name} left the status running"
    return ""


def refer(variant: Variant, folder: Path) -> Reference:
    """Run the command to its end."""
    began = time.monotonic()
    console = folder.with_suffix(".txt")
    runs = [folder / job for job in variant.jobs]
    victim, first_row_seconds = Victim(variant.arguments(folder), console), 0.0
    while not victim.is_over() and not first_row_seconds:
        time.sleep(0.01)
        first_row_seconds = (time.monotonic() - began) * any(map(rows, runs))
    if code := victim.finish():
        raise RuntimeError(f"{variant.name} ended with {code}: {console.read_text(encoding='utf-8')}")
    seconds = time.monotonic() - began
    return Reference(seconds, first_row_seconds, sum(map(rows, runs)), [outcome(run) for run in runs])


def shares(runs: int, variants: Sequence[Variant]) -> list[int]:
    """Divide the runs in proportion to the variants' shares; the first ones get the remainder."""
    total = sum(variant.share for variant in variants)
    counts = [runs * variant.share // total for variant in variants]
    for index in range(runs - sum(counts)):
        counts[index % len(counts)] += 1
    return counts


def harness(
    counts: dict[str, int], seed: int, folder: Path, found: dict[str, Tally], write: Callable[[], None]
) -> None:
    """Run the variants that `found` has too few runs of, one after the other; `write` after each run."""
    for variant in VARIANTS:
        count, tally = counts.get(variant.name, 0), found.setdefault(variant.name, Tally())
        if tally.runs >= count:
            continue
        name = "".join(character if character.isalnum() else "_" for character in variant.name)
        reference = refer(variant, folder / name)
        for index in range(tally.runs, count):
            run = folder / f"{name}_{index}"
            rng = random.Random(f"{seed} {variant.name} {index}")
            wrong = ""
            before = sum(tally.signals.values())
            while sum(tally.signals.values()) == before:  # it ended before it could be stopped: try again
                shutil.rmtree(run, ignore_errors=True)
                wrong = stop_and_resume(variant, run, reference, rng, tally)
            tally.runs += 1
            if wrong:
                tally.differences.append(f"{index}: {wrong}")
                print(f"  {variant.name} {index}: {wrong}", flush=True)
            else:
                shutil.rmtree(run, ignore_errors=True)
            write()
        print(f"{variant.name}: {tally.identical} of {tally.runs} identical, {tally.lost} lost", flush=True)


def main() -> None:
    """Read the command line, run, write the record; exit code 1 if a run was lost or differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    names = [variant.name for variant in VARIANTS]
    parser.add_argument("--variants", nargs="+", choices=names, default=names)
    parser.add_argument("--record", type=Path, default=ROOT / "logs" / "faults" / "record.json")
    arguments = parser.parse_args()
    preload()
    adopt_orphans()
    chosen = [variant for variant in VARIANTS if variant.name in arguments.variants]
    counts = dict(zip([variant.name for variant in chosen], shares(arguments.runs, chosen), strict=True))
    command = f"python benchmarks/faults.py --runs {arguments.runs} --seed {arguments.seed}"
    if arguments.variants != names:
        command += f" --variants {shlex.join(arguments.variants)}"
    origin, began = stamp(command), time.monotonic()
    found, sittings = earlier(arguments.record, origin)
    done = sum(tally.runs for tally in found.values())

    def write() -> None:
        now = {
            "measured_at": origin["measured_at"],
            "runs": sum(tally.runs for tally in found.values()) - done,
            "seconds": round(time.monotonic() - began),
        }
        record = {**origin, "cores": os.cpu_count(), "sittings": [*sittings, now], **summary(found)}
        arguments.record.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(arguments.record, json.dumps(record, indent=2) + "\n")

    latest = ROOT / "logs" / "latest"
    before = latest.readlink() if latest.is_symlink() else None
    folder = Path(tempfile.mkdtemp(prefix="tempo-faults-"))
    try:
        harness(counts, arguments.seed, folder, found, write)
    finally:
        if latest.is_symlink() and latest.readlink() != before:
            latest.unlink()
            if before is not None:
                latest.symlink_to(before)
    totals = summary(found)
    print(", ".join(f"{totals[name]} {name}" for name in COUNTED))
    if totals["identical"] < totals["runs"]:
        sys.exit(f"the runs that differ are kept in {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
