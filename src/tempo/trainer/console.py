"""Print a run's header, progress lines and table of results."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from tempo.config.schema import SMOKE, TrainerConfig
from tempo.distributed.gradient_exchange import exchange_of
from tempo.record.run_json import Data, RunRecord
from tempo.scheduler.schedule import Schedule

_FILE_COLUMNS = 160
_MOST_CLASSES = 6
"""Number of classes that a header names."""
_LINES_OF_A_RUN = 60
"""Largest number of progress lines per run if the output is not a terminal."""


def console() -> Console:
    """Return rich's console on standard output; lines in a file are not cut to a terminal's width."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _FILE_COLUMNS)


def print_header(record: RunRecord, classes: int, schedule: str) -> None:
    """Print the configuration as a tree, then one line each for batch and schedule."""
    tree = Tree(f"[bold]{record.name}[/bold]  seed {record.seed}  config {record.config_hash}")
    for group in ("data", "model", "optimizer", "scheduler", "trainer"):
        option = record.choices.get(group, "")
        tree.add(f"[cyan]{group:9}[/cyan] [bold]{option}[/bold]  {_facts(group, record, classes)}")
    out = console()
    _print_label(record, out)
    out.print(tree)
    out.print(f"[cyan]batch[/cyan]     {batch_line(record)}")
    out.print(f"[cyan]schedule[/cyan]  {schedule}")
    # Names of classes and files may contain brackets, which are rich's markup.
    out.print(Text.assemble(("classes   ", "cyan"), classes_line(record.data)))
    for remark in record.data.get("remarks", ()):
        out.print(Text.assemble(("images    ", "cyan"), remark))


def classes_line(data: Data) -> str:
    """Return the first class names with their training images, and how much these numbers differ."""
    names, counts = data["class_names"], data["class_counts"]["train"]
    pairs = [f"{name} {count:,}" for name, count in zip(names, counts, strict=True)]
    more = ", ..." if len(pairs) > _MOST_CLASSES else ""
    least, most = min(counts), max(counts)
    ratio = f", {most / least:.3g} times as many" if 0 < 2 * least <= most else ""
    return f"{', '.join(pairs[:_MOST_CLASSES])}{more}; {least:,} to {most:,} training images per class{ratio}"


def batch_line(record: RunRecord) -> str:
    """Return `TBS 64 = 64 per device x 1 device x 1 accumulation, on ..`, with nodes if there are several."""
    batch, trainer = record.batch, record.config["trainer"]
    if exchange_of(trainer).is_asynchronous:
        return (
            f"TBS {batch['total']} = {batch['per_device']} per worker x {batch['accumulate']} accumulation, "
            f"separate steps of {record.world_size} workers, on {record.device}"
        )
    nodes = f" x {trainer['num_nodes']} nodes" if trainer["num_nodes"] > 1 else ""
    devices = record.world_size // trainer["num_nodes"]
    return (
        f"TBS {batch['total']} = {batch['per_device']} per device x {_count(devices, 'device')}{nodes} "
        f"x {batch['accumulate']} accumulation, on {record.device}"
    )


def schedule_line(schedule: Schedule, total: int, steps_per_epoch: int) -> str:
    """Describe learning rate and momentum over the run by their first, most distant and last value."""
    interval = max(1, total // 1000)
    points = {step: schedule.at(step, total) for step in [*range(0, total, interval), total - 1]}
    parts = [f"{_count(total, 'step')} = {total / steps_per_epoch:g} epochs x {steps_per_epoch}"]
    for name in ("lr", "momentum"):
        values = {step: point[name] for step, point in points.items() if name in point}
        if not values:
            continue
        start, end = values[0], values[total - 1]
        extreme = max(values, key=lambda step: abs(values[step] - start))
        path = [start] if values[extreme] == start else [start, values[extreme], end]
        if len(path) == 3 and path[1] == path[2]:
            path.pop()
        parts.append(f"{name} " + " -> ".join(f"{value:.4g}" for value in path))
    return ", ".join(parts)


def print_results(record: RunRecord, folder: Path) -> None:
    """Print loss and accuracy of each set, the cost, the folder and, if interrupted, how to resume."""
    out = console()
    _print_label(record, out)
    table = Table(title=f"{record.name}: {record.status}{f' ({record.reason})' if record.reason else ''}")
    for column in ("set", "images", "loss", "accuracy"):
        table.add_column(column, justify="left" if column == "set" else "right")
    for split, values in record.metrics.items():
        size = record.data.get(split, "")
        table.add_row(split, f"{size:,}", f"{values['loss']:.4f}", f"{100 * values['accuracy']:.2f} %")
    out.print(table)
    note = record.data.get("note")
    out.print(f"data      {record.data.get('name', '')}" + (f" ({note})" if note else ""))
    chosen = record.selected
    if chosen.get("by") == "last":
        out.print(f"tested    step {chosen['step']}, the last one")
    elif chosen:
        out.print(f"tested    step {chosen['step']}, chosen by {chosen['by']} = {chosen['value']:.4f}")
    more = f" of {record.evaluations} evaluations" if record.evaluations > record.steps else ""
    if dropped := record.exchange.get("dropped"):
        more += f", {dropped} gradients dropped as too stale,"
    out.print(
        f"cost      {record.steps} steps{more} in {record.seconds.get('train', 0):.1f} s of training "
        f"({record.images_per_second:,.0f} images/s), {record.seconds.get('total', 0):.1f} s in all"
    )
    if record.energy:
        joules = record.energy["joules"]
        rounded = f"{joules:,.0f}" if joules >= 10 else f"{joules:.2g}"
        out.print(f"energy    {rounded} J of training ({record.energy['source']})")
    out.print(f"folder    {folder}")
    if record.status == "interrupted":
        # Use the run's own script: src/train.py would refuse the keys of conf/lr_range.yaml.
        out.print(f"resume    python {record.script} resume={folder}")


class ProgressLines(pl.Callback):
    """A progress bar on a terminal; elsewhere one line per validation, at most about sixty per run.

    Without validation, each line describes an epoch's last training interval.
    """

    def __init__(self, total_steps: int, epochs: int, validates: bool) -> None:
        self.validates = validates
        self.total_steps = total_steps
        self.every_n_epochs = max(1, -(-epochs // _LINES_OF_A_RUN))
        self.line = ""
        self.last_train: dict[str, float] = {}
        self._printed_epoch = 0
        self.bar: Progress | None = None
        self.task: TaskID | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar on a terminal."""
        if trainer.is_global_zero and sys.stdout.isatty():
            self.bar = Progress(
                TextColumn("step {task.completed}/{task.total}"),
                BarColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
                console=console(),
            )
            self.bar.start()
            self.task = self.bar.add_task("", total=self.total_steps, completed=trainer.global_step)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Move the bar, without copying any value from the device."""
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=trainer.global_step, description=self.line)

    def row(self, row: Mapping[str, float]) -> None:
        """Receive a row of metrics.csv and print a line if it ends an epoch."""
        if "train/loss" in row:
            self.last_train = dict(row)
        epoch = round(row["epoch"])
        last = row["step"] >= self.total_steps
        if "val/loss" in row or (not self.validates and (last or row["epoch"] == epoch)):
            self.line = self._line(row)
            if self.bar is None and (
                last or epoch >= self._printed_epoch + self.every_n_epochs or epoch <= 1
            ):
                self._printed_epoch = epoch
                print(self.line, flush=True)

    def _line(self, row: Mapping[str, float]) -> str:
        train = self.last_train
        parts = [f"epoch {row['epoch']:g}", f"step {row['step']}/{self.total_steps}"]
        if train:
            parts += [
                f"lr {train['lr']:.3g}",
                f"train {train['train/loss']:.3f} {100 * train['train/accuracy']:.1f} %",
            ]
        if "val/loss" in row:
            parts.append(f"val {row['val/loss']:.3f} {100 * row['val/accuracy']:.1f} %")
        return "  ".join(parts)

    def stop(self) -> None:
        """Remove the bar from the terminal."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove the bar before results are printed."""
        self.stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Remove the bar before the error is printed."""
        self.stop()


def _print_label(record: RunRecord, out: Console) -> None:
    if record.config.get("scale") == "smoke":
        out.print(Text(f"*** {SMOKE} ***", style="bold red"))


def _facts(group: str, record: RunRecord, classes: int) -> str:
    sizes = record.data
    if group == "data":
        note = sizes.get("note")
        counts = f"{sizes['train']:,} train, {sizes['val']:,} val, {sizes['test']:,} test, {classes} classes"
        return counts + (f" [dim]({note})[/dim]" if note else "")
    node = {key: value for key, value in record.config[group].items() if not key.startswith("_")}
    if group == "trainer":  # only the keys that differ from the defaults, and the number of epochs
        defaults = dataclasses.asdict(TrainerConfig()) | {"epochs": None}
        node = {key: value for key, value in node.items() if value != defaults.get(key)}
    pairs = " ".join(f"{key}={_value(value)}" for key, value in node.items() if value is not None)
    return f"{record.parameters['total']:,} parameters  {pairs}" if group == "model" else pairs


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
