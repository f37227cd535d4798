"""Measure one GPU within a budget of seconds (`benchmarks/gpu.sh`): speeds, then runs of radiuk2020.

Measured at TBS 512 in bf16, channels_last: the loader; resnet56 and densenet40 as a plain loop and as
src/train.py's own path: eager, as a CUDA graph, compiled, both; what deterministic kernels cost. Then
ResNet-56 with 1cycle, LR 0.08 to 0.8, WD 1e-4, crop and flip, 50 and 95 epochs, and DenseNet-40, in the order
of their worth while the time lasts. What is left out is printed with its reason.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
import tarfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from gpu_steps import MODES, loader_speed, raw_speed, tempo_speed
from image_archive import read_archive
from jobs import Config, changed, composed_config
from measurement import Row, stamp
from rich.console import Console
from rich.table import Table

import tempo.data.folder
from tempo.record.atomic_write import write_atomically
from tempo.record.run_json import RunRecord
from tempo.run.run_request import RunRequest
from tempo.run.train import run

_START_SECONDS = 15.0
"""Seconds before the first step of a run and after its last, compilation from the cache included."""
_TEMPO_EPOCHS, _TEMPO_STEPS = 6, 40
"""Length of each measurement of src/train.py's path; the first epoch does not count."""


_OVERRIDES = {
    "eager": ("trainer.cuda_graph=false",),
    "graph": ("trainer.cuda_graph=true",),
    "compiled": ("trainer.cuda_graph=false", "trainer.compile=true"),
    "compiled_graph": ("trainer.cuda_graph=true", "trainer.compile=true"),
}
"""Overrides for each of `MODES`."""


class Session:
    """One use of the script: its clock, its rows, its runs and what it had to leave out."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.device: str = arguments.device
        self.began = time.perf_counter()
        self.rows: dict[str, list[Row]] = {}
        self.runs: list[dict[str, Any]] = []
        self.left_out: list[str] = []
        self.fastest: dict[str, float] = {}
        """Images per second of src/train.py's path, the best of its modes."""
        self.best_mode: dict[str, tuple[str, ...]] = {}

    @property
    def batch_size(self) -> int:
        """Total batch size."""
        return 16 if self.arguments.shorten else 512

    @property
    def seconds_left(self) -> float:
        """Seconds left of the budget."""
        return float(self.arguments.budget_seconds) - (time.perf_counter() - self.began)

    def config(self, model: str, *overrides: str) -> Config:
        """Compose the configuration that all measurements share."""
        small = (
            ["model.depth=8" if model == "resnet56" else "model.depth=10"] if self.arguments.shorten else []
        )
        return composed_config(
            "data=folder", f"data.root={self.arguments.archive}", "data.val_size=0",
            "objective=test/accuracy", "checkpoint.select=last", "data.augment.crop_padding=4",
            "data.augment.flip=true", f"data.total_batch_size={self.batch_size}",
            f"trainer={'gpu' if self.device == 'cuda' else 'cpu'}", "trainer.precision=bf16-mixed",
            "trainer.deterministic=false", f"model={model}", *small, *overrides,
        )  # fmt: skip

    def say(self, words: str) -> None:
        """Print a line with the time."""
        print(f"[{time.perf_counter() - self.began:6.1f} s] {words}", flush=True)

    def leave_out(self, what: str, reason: str) -> None:
        """Print what is left out, and note it for the record."""
        self.left_out.append(f"{what}: {reason}")
        self.say(f"left out: {what}: {reason}")

    def measure(self, model: str, what: str, needs_seconds: float, function: Callable[[], list[Row]]) -> bool:
        """Take one measurement if there is time; a failure is printed and the rest continues."""
        if self.seconds_left < needs_seconds:
            self.leave_out(f"{model} {what}", f"{self.seconds_left:.0f} s are left")
            return False
        try:
            rows = function()
        except Exception as error:
            if self.arguments.shorten:
                raise
            self.leave_out(f"{model} {what}", f"{type(error).__name__}: {error}".splitlines()[0])
            return False
        self.rows.setdefault(model, []).extend(rows)
        self.save()
        self.say(f"{model} " + ", ".join(f"{row.name} {row.median:,.4g} {row.unit}" for row in rows))
        return True

    def speeds(self, model: str) -> None:
        """Measure the plain loop and tempo in every mode that the device has."""
        short = self.arguments.shorten
        steps, rounds = (2, 2) if short else (40, 5)
        for mode in MODES:
            if reason := self._impossible(mode):
                self.leave_out(f"{model} {mode}", reason)
                continue
            # The first to compile waits for the compiler; those after it find the code in its cache.
            compiled = any(row.name == "raw_compiled" for row in self.rows.get(model, []))
            needs = 120.0 if mode.startswith("compiled") and not compiled else 25.0
            raw = lambda mode=mode: list(  # noqa: E731
                raw_speed(self.config(model), mode, self.device, rounds=rounds, steps=steps)
            )
            self.measure(model, f"raw {mode}", 0.0 if short else needs, raw)
            self._tempo(model, mode, *_OVERRIDES[mode])
        if not self._impossible("graph"):
            self._tempo(model, "graph_deterministic", *_OVERRIDES["graph"], "trainer.deterministic=true")

    def _tempo(self, model: str, mode: str, *overrides: str) -> None:
        short = self.arguments.shorten
        epochs, steps = (2, 2) if short else (_TEMPO_EPOCHS, _TEMPO_STEPS)
        length = (f"trainer.epochs={epochs}", f"trainer.limit_train_steps={steps}")
        config = self.config(model, *length, *overrides)
        if not self.measure(
            model, f"tempo {mode}", 0 if short else 40.0, lambda: [tempo_speed(config, mode)]
        ):
            return
        speed = self.rows[model][-1].median
        self._note_ratio(model, mode, speed)
        self.save()
        if mode in _OVERRIDES and speed > self.fastest.get(model, 0):
            self.fastest[model], self.best_mode[model] = speed, _OVERRIDES[mode]

    def _note_ratio(self, model: str, mode: str, speed: float) -> None:
        for row in self.rows[model]:
            if row.name == f"raw_{mode}":
                self.rows[model].append(Row(f"tempo_over_raw_{mode}", "ratio", [speed / row.median]))
                return

    def _impossible(self, mode: str) -> str:
        if mode.endswith("graph") and self.device != "cuda":
            return "CUDA graphs need a GPU"
        if mode.startswith("compiled") and self.arguments.shorten:
            return "--shorten does not compile"
        return ""

    def train(self, model: str, epochs: int, seed: int, images: int) -> None:
        """Train a run with its record if there is time."""
        name = f"{model}_1cycle_{epochs}_epochs_seed{seed}"
        if model not in self.fastest:
            self.leave_out(name, "its speed could not be measured")
            return
        needs = _START_SECONDS + epochs * images / self.fastest[model]
        if not self.arguments.shorten and self.seconds_left < 1.15 * needs:
            self.leave_out(name, f"needs {needs:.0f} s, {self.seconds_left:.0f} s are left")
            return
        config = self.config(
            model, *self.best_mode[model], "scheduler=onecycle", "scheduler.min_lr=0.08",
            "scheduler.max_lr=0.8", "optimizer=momentum", "optimizer.wd=1e-4",
            f"trainer.epochs={epochs}", f"seed={seed}",
        )  # fmt: skip
        folder = self.arguments.out / "runs" / name
        folder.mkdir(parents=True, exist_ok=True)
        try:
            record = run(
                RunRequest(config=changed(config, name=name), folder=folder, overrides=[], choices={})
            )
        except Exception as error:
            if self.arguments.shorten:
                raise
            self.leave_out(name, f"{type(error).__name__}: {error}".splitlines()[0])
            return
        self.runs.append(_summary(name, record))
        self.save()
        self.say(f"{name}: {100 * record.metrics.get('test', {}).get('accuracy', 0):.2f} % ({record.status})")
        for bulky in ("checkpoints", "tensorboard"):
            shutil.rmtree(folder / bulky, ignore_errors=True)

    def save(self) -> None:
        """Write what is measured so far: the script may be stopped before its budget is spent."""
        write_atomically(self.arguments.out / "gpu.json", json.dumps(self.record(), indent=2) + "\n")

    def record(self) -> dict[str, Any]:
        """Return everything as plain values."""
        shorten = " --shorten" * self.arguments.shorten
        return {
            **stamp(f"benchmarks/gpu.sh {self.arguments.archive.name}{shorten}"),
            **({"device": torch.cuda.get_device_name()} if self.device == "cuda" else {}),
            "total_batch_size": self.batch_size,
            "seconds": time.perf_counter() - self.began,
            "rows": {model: {row.name: row.to_json() for row in rows} for model, rows in self.rows.items()},
            "runs": self.runs,
            "left_out": self.left_out,
        }


def _summary(name: str, record: RunRecord) -> dict[str, Any]:
    return {
        "name": name,
        "status": record.status,
        "accuracy": record.metrics.get("test", {}).get("accuracy"),
        "epochs": record.epochs,
        "seconds": record.seconds,
        "images_per_second": record.images_per_second,
    }


def course(session: Session) -> None:
    """Measure and train in the order of worth."""
    short = session.arguments.shorten
    images = read_archive(session.arguments.archive, "cifar10-images")
    count = len(images[0])
    session.say(f"{count:,} training and {len(images[1]):,} test images decoded")
    # The archive in place of a tree of files; all else is the ordinary path.
    with patch.object(tempo.data.folder, "folder", lambda **keys: images):
        rounds = 2 if short else 5
        loader = lambda: [loader_speed(session.config("resnet56"), session.device, rounds)]  # noqa: E731
        session.measure("data", "loader", 0 if short else 10.0, loader)
        session.speeds("resnet56")
        for seed in (0,) if short else (0, 1, 2):
            session.train("resnet56", 1 if short else 95, seed, count)
        session.speeds("densenet40")
        for seed in () if short else (0, 1, 2):
            session.train("resnet56", 50, seed, count)
        for epochs in (1,) if short else _epochs_that_fit(session, count):
            session.train("densenet40", epochs, 0, count)


def _epochs_that_fit(session: Session, images: int) -> tuple[int, ...]:
    """Return as many epochs as the time left allows, at most the 100 of the paper."""
    speed = session.fastest.get("densenet40", 0)
    fit = int((session.seconds_left / 1.15 - _START_SECONDS) * speed / images)
    return (min(100, fit),) if fit >= 10 else ()


def show(record: dict[str, Any]) -> None:
    """Print two tables: speeds, and runs."""
    device, torch_version = record["device"], record["versions"]["torch"]
    batch = f"TBS {record['total_batch_size']}"
    table = Table(title=f"{device}, torch {torch_version}, {batch}, bf16, channels_last")
    for column in ("model", "row", "median", "smallest", "largest", "unit"):
        table.add_column(column, justify="right" if column in ("median", "smallest", "largest") else "left")
    for model, rows in record["rows"].items():
        for name, row in rows.items():
            numbers = [
                f"{row[key]:,.4g}" if row[key] < 1000 else f"{row[key]:,.0f}"
                for key in ("median", "min", "max")
            ]
            table.add_row(model, name, *numbers, row["unit"])
    runs = Table(title="runs")
    for column in ("run", "test accuracy", "training s", "images/s"):
        runs.add_column(column, justify="left" if column == "run" else "right")
    for run_ in record["runs"]:
        accuracy = run_["status"] if run_["accuracy"] is None else f"{100 * run_['accuracy']:.2f} %"
        seconds = f"{run_['seconds'].get('train', 0):.1f}"
        runs.add_row(run_["name"], accuracy, seconds, f"{run_['images_per_second']:,.0f}")
    Console(width=120).print(table)
    Console(width=120).print(runs)
    for words in record["left_out"]:
        print(f"left out: {words}")


def main() -> None:
    """Measure, train, print, write `gpu.json` and the runs' records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("archive", type=Path, help="tar archive of train/<class>/* and test/<class>/*")
    parser.add_argument("--out", type=Path, default=Path("logs/gpu"))
    parser.add_argument("--budget-seconds", type=float, default=510.0)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument(
        "--shorten", action="store_true", help="tiny networks, one epoch: only the path is tried"
    )
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("gpu.sh: this machine has no GPU; try the same path with --device cpu --shorten")
    if not arguments.archive.is_file():
        sys.exit(f"gpu.sh: {arguments.archive} is not a file; pass the archive of CIFAR-10's images")
    arguments.archive, arguments.out = arguments.archive.absolute(), arguments.out.absolute()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    if arguments.out.exists() and any(arguments.out.iterdir()):
        sys.exit(f"gpu.sh: {arguments.out} is not empty; choose another --out")
    arguments.out.mkdir(parents=True, exist_ok=True)
    session = Session(arguments)
    try:
        course(session)
    finally:  # whatever broke, what was measured is kept
        session.save()
        with tarfile.open(arguments.out / "records.tar.gz", "w:gz") as archive:
            archive.add(arguments.out / "gpu.json", "gpu.json")
            for file in sorted(arguments.out.glob("runs/*/*")):
                if file.name in ("run.json", "metrics.csv"):
                    archive.add(file, str(file.relative_to(arguments.out)))
        show(session.record())


if __name__ == "__main__":
    main()
