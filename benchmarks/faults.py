"""Kill runs at random moments, resume them, and compare: `python benchmarks/faults.py [--runs 100]`.

Each run is a `python src/train.py ...` that is ended one to three times, by SIGKILL, SIGTERM or Ctrl-C
(SIGINT), at a moment drawn from `--seed`: any time since its start, while it writes a checkpoint or its
record, after a row of metrics, or at its very end. Then `python src/train.py resume=<folder>` resumes it (a
sweep is rerun). `identical` counts the runs with the same weights, metrics, rows of metrics.csv (without the
column of seconds), TensorBoard curves and checkpoints as a run that was never stopped; `lost` counts those
that could not be resumed. `--record` is the path of the record.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measurement import ROOT, stamp
from victims import Victim, first_difference, outcome, preload, rows, unfinished

from tempo.errors import UserError
from tempo.record.atomic_write import write_atomically
from tempo.record.run_json import FILE_NAME, RunRecord

TINY = (
    "model=mlp",
    "trainer=cpu",
    "trainer.threads=1",
    "data.train_size=320",
    "trainer.epochs=8",
    "trainer.log_every_n_steps=1",
    "trainer.steps_per_call=1",
    "checkpoint.every_n_steps=3",
)
"""40 steps, each a row of metrics.csv."""


@dataclass(frozen=True)
class Variant:
    """A command, and its share of the runs."""

    name: str
    overrides: tuple[str, ...]
    share: int = 9
    jobs: tuple[str, ...] = ("",)
    """Folders of the runs below the command's own: those of a sweep's jobs."""

    def arguments(self, folder: Path) -> list[str]:
        """Return the arguments that start it in a folder, or rerun a sweep."""
        where = "hydra.run.dir" if self.jobs == ("",) else "hydra.sweep.dir"
        given = {word.partition("=")[0]: word for word in (*TINY, *self.overrides)}
        return [*given.values(), f"{where}={folder}"]


FEW_EPOCHS = "trainer.epochs=4"
TWO_JOBS = ("seed=0", "seed=1")
VARIANTS = (
    Variant("1cycle, cyclical momentum", ("scheduler=onecycle", "optimizer.lr=0.01")),
    Variant("moving average, clipping", ("ema.decay=0.9", "trainer.gradient_clip=1", "optimizer=nesterov")),
    Variant("dropout", ("model=cnn3", FEW_EPOCHS)),
    Variant("batch norm, dropout", ("model=densenet40", "model.depth=10", "model.dropout=0.2", FEW_EPOCHS)),
    Variant(
        "augmentation, accumulation",
        ("data.augment={crop_padding: 1, flip: true, cutout: 2}", "trainer.accumulate=2", "optimizer=adamw"),
    ),
    Variant("early stopping", ("early_stopping.patience=2", "early_stopping.min_delta=0.05")),
    Variant("every 2 steps, end within an epoch", ("checkpoint.every_n_steps=2", "trainer.max_steps=38")),
    Variant("chunks of steps", ("trainer.steps_per_call=auto", "checkpoint.every_n_steps=null")),
    Variant("the 3 best states", ("checkpoint.keep_best=3", "optimizer=adam", "optimizer.lr=0.1")),
    Variant("sweep", ("seed=0,1", FEW_EPOCHS, "-m"), 8, TWO_JOBS),
    Variant("sweep, a process per job", ("seed=0,1", "hydra/launcher=local", FEW_EPOCHS, "-m"), 8, TWO_JOBS),
    Variant("2 processes (DDP, gloo)", ("trainer=ddp_cpu", "trainer.devices=2", FEW_EPOCHS), 3),
)

COUNTED = ("runs", "resumed", "identical", "lost")


@dataclass
class Tally:
    """Outcomes of the runs of one variant."""

    runs: int = 0
    resumed: int = 0
    identical: int = 0
    lost: int = 0
    signals: Counter[str] = field(default_factory=Counter)
    moments: Counter[str] = field(default_factory=Counter)
    inside_a_write: int = 0
    """Number of kills that left an unfinished file."""
    differences: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Reference:
    """Outcome of a command that was never stopped."""

    seconds: float
    rows: int
    outcomes: list[dict[str, Any]]


def moment(
    rng: random.Random, runs: Sequence[Path], reference: Reference, began: float
) -> tuple[str, Callable[[], bool]]:
    """Draw a moment; return its name and a function that says whether it has come."""
    kind = rng.choice(("any time", "any time", "a file is written", "after a row", "after the last row"))
    if kind == "any time":
        after = rng.uniform(0, 1.1 * reference.seconds)
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
    if code := Victim(variant.arguments(folder), console).finish():
        raise RuntimeError(f"{variant.name} ended with {code}: {console.read_text(encoding='utf-8')}")
    runs = [folder / job for job in variant.jobs]
    return Reference(time.monotonic() - began, sum(map(rows, runs)), [outcome(run) for run in runs])


def shares(runs: int, variants: Sequence[Variant]) -> list[int]:
    """Divide the runs in proportion to the variants' shares; the first ones get the remainder."""
    total = sum(variant.share for variant in variants)
    counts = [runs * variant.share // total for variant in variants]
    for index in range(runs - sum(counts)):
        counts[index % len(counts)] += 1
    return counts


def harness(runs: int, seed: int, variants: Sequence[Variant], folder: Path) -> dict[str, Tally]:
    """Run all variants, one after the other."""
    found = {}
    for variant, count in zip(variants, shares(runs, variants), strict=True):
        if not count:
            continue
        name = "".join(character if character.isalnum() else "_" for character in variant.name)
        reference = refer(variant, folder / name)
        tally = found[variant.name] = Tally()
        for index in range(count):
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
        print(f"{variant.name}: {tally.identical} of {tally.runs} identical, {tally.lost} lost", flush=True)
    return found


def summary(found: dict[str, Tally]) -> dict[str, Any]:
    """Sum the counts over all variants, and list them by variant."""
    totals = {name: sum(getattr(tally, name) for tally in found.values()) for name in COUNTED}
    signals, moments = Counter[str](), Counter[str]()
    for tally in found.values():
        signals.update(tally.signals)
        moments.update(tally.moments)
    overrides = {variant.name: list(variant.overrides) for variant in VARIANTS}
    return {
        **totals,
        "stops": sum(signals.values()),
        "signals": dict(signals),
        "moments": dict(moments),
        "inside_a_write": sum(tally.inside_a_write for tally in found.values()),
        "all_overrides": list(TINY),
        "variants": [
            {
                "name": name,
                "overrides": overrides[name],
                **{key: getattr(tally, key) for key in (*COUNTED, "differences")},
                "stops": sum(tally.signals.values()),
            }
            for name, tally in found.items()
        ],
    }


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
    latest = ROOT / "logs" / "latest"
    before, began = latest.readlink() if latest.is_symlink() else None, time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="tempo-faults-"))
    try:
        chosen = [variant for variant in VARIANTS if variant.name in arguments.variants]
        found = harness(arguments.runs, arguments.seed, chosen, folder)
    finally:
        if latest.is_symlink() and latest.readlink() != before:
            latest.unlink()
            if before is not None:
                latest.symlink_to(before)
    counts = summary(found)
    command = f"python benchmarks/faults.py --runs {arguments.runs} --seed {arguments.seed}"
    record = {**stamp(command), "seconds": round(time.monotonic() - began), **counts}
    arguments.record.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(arguments.record, json.dumps(record, indent=2) + "\n")
    print(", ".join(f"{counts[name]} {name}" for name in COUNTED))
    if counts["identical"] < counts["runs"]:
        sys.exit(f"the runs that differ are kept in {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
