"""Print a run's header, progress lines and table of results."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from rich import progress as rich_progress
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from tempo.config.schema import SMOKE, TrainerConfig
from tempo.distributed.gradient_exchange import exchange_of
from tempo.paths import as_typed
from tempo.record.metric_names import is_share
from tempo.record.run_json import Data, RunRecord
from tempo.scheduler.schedule import Schedule
from tempo.task.late_callback import LateCallback
from tempo.task.progress import Progress

_FILE_COLUMNS = 160
_BAR_COLUMNS = 20
_MOST_CLASSES = 6
"""Number of classes that a header names."""
_LINES_OF_A_RUN = 60
"""Largest number of progress lines per run if the output is not a terminal."""


def console() -> Console:
    """Return rich's console on standard output; lines in a file are not cut to a terminal's width."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _FILE_COLUMNS)


def print_header(record: RunRecord, schedule: str, scheduled: Collection[str] = ()) -> None:
    """Print the configuration as a tree, then one line each for batch and schedule.

    `scheduled` names the optimizer's values that the schedule sets, which its own line shows.
    """
    tree = Tree(f"[bold]{record.name}[/bold]  seed {record.seed}  config {record.config_hash}")
    for group in ("data", "model", "optimizer", "scheduler", "trainer"):
        option = record.choices.get(group, "")
        tree.add(f"[cyan]{group:9}[/cyan] [bold]{option}[/bold]  {_facts(group, record, scheduled)}")
    out = console()
    _print_label(record, out)
    out.print(tree)
    out.print(f"[cyan]batch[/cyan]     {batch_line(record)}")
    out.print(f"[cyan]schedule[/cyan]  {schedule}")
    # Names of classes and files may contain brackets, which are rich's markup.
    if "class_counts" in record.data:
        out.print(Text.assemble(("classes   ", "cyan"), classes_line(record.data)))
    label = "items     " if "batches" in record.data else "images    "
    for remark in record.data.get("remarks", ()):
        out.print(Text.assemble((label, "cyan"), remark))


def classes_line(data: Data) -> str:
    """Return `cat (15), dog (7); ...`: class names, their training images, and how much these differ."""
    names, counts = data["class_names"], data["class_counts"]["train"]
    pairs = [f"{name} ({count:,})" for name, count in zip(names, counts, strict=True)]
    more = ", ..." if len(pairs) > _MOST_CLASSES else ""
    least, most = min(counts), max(counts)
    ratio = f", {most / least:.3g} times as many" if 0 < 2 * least <= most else ""
    return f"{', '.join(pairs[:_MOST_CLASSES])}{more}; {least:,} to {most:,} training images per class{ratio}"


def print_notes(lines: Sequence[str]) -> None:
    """Print a line each for what the user should know of this run."""
    for line in lines:
        console().print(Text.assemble(("note", "cyan"), f"      {line}"))


def batch_line(record: RunRecord) -> str:
    """Return `TBS 64 = 64 per device x 1 device x 1 accumulation, on ..`, with nodes if there are several."""
    batch, trainer = record.batch, record.config["trainer"]
    if exchange_of(trainer).is_asynchronous:
        return (
            f"TBS {batch['total']} = {batch['per_device']} per worker x {batch['accumulate']} accumulation, "
            f"separate steps of {record.world_size} workers, on {record.device}"
        )
    if record.world_size == batch["accumulate"] == 1:
        return f"TBS {batch['total']}, on {record.device}"
    nodes = f" x {trainer['num_nodes']} nodes" if trainer["num_nodes"] > 1 else ""
    devices = record.world_size // trainer["num_nodes"]
    return (
        f"TBS {batch['total']} = {batch['per_device']} per device x {_count(devices, 'device')}{nodes} "
        f"x {batch['accumulate']} accumulation, on {record.device}"
    )


def schedule_line(schedule: Schedule | None, total: int, steps_per_epoch: int) -> str:
    """Describe learning rate and momentum over the run by their first, most distant and last value."""
    epochs = total / steps_per_epoch
    noun = "epoch" if epochs == 1 else "epochs"
    length = f"{_count(total, 'step')} = {epochs:.4g} {noun} x {_count(steps_per_epoch, 'step')}"
    if schedule is None:
        return f"{length}, learning rate as the module sets it"
    interval = max(1, total // 1000)
    points = {step: schedule.at(step, total) for step in [*range(0, total, interval), total - 1]}
    parts = [length]
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
    """Print the metrics of each set, the cost, the folder and, if interrupted, how to resume."""
    out = console()
    _print_label(record, out)
    how = record.reason if record.reason.startswith(record.status) else f"{record.status} ({record.reason})"
    out.print(Text(f"{record.name}: {how if record.reason else record.status}", style="bold"))
    table = Table()
    names = dict.fromkeys(name for values in record.metrics.values() for name in values)
    items = "items" if "batches" in record.data else "images"  # a user's own data may be anything
    for column in ("set", items, *names):
        table.add_column(column, justify="left" if column == "set" else "right")
    for split, values in record.metrics.items():
        size = record.data.get(split, "")
        cells = [_metric(name, values[name]) if name in values else "" for name in names]
        table.add_row(split, f"{size:,}" if size else "", *cells)
    out.print(table)
    if "train" in record.metrics:
        out.print("train     mean over the last interval of training steps, as the weights changed")
    out.print(f"data      {record.data.get('name', '')}")
    chosen = record.selected
    if chosen.get("by") == "last":
        out.print(f"tested    step {chosen['step']}, the last one")
    elif chosen:
        value = _metric(chosen["by"].partition("/")[2], float(chosen["value"] or 0))
        out.print(f"tested    step {chosen['step']}, chosen by {chosen['by']} {value}")
    more = f" of {record.evaluations} evaluations" if record.evaluations > record.steps else ""
    if dropped := record.exchange.get("dropped"):
        more += f", {dropped} gradients dropped as too stale,"
    out.print(
        f"cost      {_count(record.steps, 'step')}{more} in {record.seconds.get('train', 0):.1f} s of "
        f"training ({record.images_per_second:,.0f} {items}/s), {record.seconds.get('total', 0):.1f} s in all"
    )
    if record.energy:
        joules = record.energy["joules"]
        rounded = f"{joules:,.0f}" if joules >= 10 else f"{joules:.2g}"
        out.print(f"energy    {rounded} J of training ({record.energy['source']})")
    out.print(Text(f"folder    {folder}"), soft_wrap=True)  # a path that is broken cannot be pasted
    if record.status == "interrupted":
        # Use the run's own script: src/train.py would refuse the keys of conf/lr_range.yaml.
        resume = as_typed(f"resume    python {record.script} resume={folder}")
        out.print(Text(resume), soft_wrap=True)


class ProgressLines(LateCallback):
    """A progress bar on a terminal; elsewhere one line per validation, at most about sixty per run.

    Without validation, each line describes an epoch's last training interval.
    """

    def __init__(self, progress: Progress, *, validates: bool) -> None:
        self.progress = progress
        self.validates = validates
        self.total_steps = progress.total_steps
        epochs = -(-progress.total_steps // progress.plan.steps_per_epoch)
        self.every_n_epochs = max(1, -(-epochs // _LINES_OF_A_RUN))
        self.values = ""
        self.last_train: dict[str, float] = {}
        self._printed_epoch = 0
        self.bar: rich_progress.Progress | None = None
        self.task: rich_progress.TaskID | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar on a terminal."""
        if trainer.is_global_zero and sys.stdout.isatty():
            self.bar = rich_progress.Progress(
                rich_progress.TextColumn("step {task.completed}/{task.total}"),
                rich_progress.BarColumn(bar_width=_BAR_COLUMNS),
                rich_progress.TimeRemainingColumn(compact=True),
                rich_progress.TextColumn("{task.description}"),
                console=console(),
            )
            self.bar.start()
            self.task = self.bar.add_task("", total=self.total_steps, completed=self.progress.steps_done)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Move the bar, without copying any value from the device."""
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=self.progress.steps_done, description=self.values)

    def row(self, row: Mapping[str, float]) -> None:
        """Receive a row of metrics.csv and print a line if it ends an epoch."""
        if any(name.startswith("train/") for name in row):
            # A row of an interval has the learning rate or the loss; one of an epoch's means adds to it.
            is_interval = "lr" in row or "train/loss" in row
            self.last_train = dict(row) if is_interval else {**self.last_train, **row}
        epoch = round(row["epoch"])
        last = row["step"] >= self.total_steps
        if any(name.startswith("val/") for name in row) or (
            not self.validates and (last or row["epoch"] == epoch)
        ):
            self.values = self._values(row)
            if self.bar is None and (
                last or epoch >= self._printed_epoch + self.every_n_epochs or epoch <= 1
            ):
                self._printed_epoch = epoch
                parts = [f"epoch {row['epoch']:g}", f"step {row['step']}/{self.total_steps}"]
                if "lr" in self.last_train:
                    parts.append(f"lr {self.last_train['lr']:.3g}")
                print("  ".join([*parts, self.values]), flush=True)

    def _values(self, row: Mapping[str, float]) -> str:
        """Return `train 0.363 93.8 %  val 0.222 95.1 %`."""
        parts = []
        for split, values in (("train", self.last_train), ("val", row)):
            found = {name: value for name, value in values.items() if name.startswith(f"{split}/")}
            if found:
                parts.append(" ".join([split, *(_short(name, value) for name, value in found.items())]))
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


def _facts(group: str, record: RunRecord, scheduled: Collection[str]) -> str:
    sizes = record.data
    if group == "data":
        note = sizes.get("note")
        counts = f"{sizes['train']:,} train, {sizes['val']:,} val"
        if sizes["test"]:
            counts += f", {sizes['test']:,} test"
        if "classes" in sizes:
            counts += f", {sizes['classes']} classes"
        return counts + (f" [dim]({note})[/dim]" if note else "")
    node = {key: value for key, value in record.config[group].items() if not key.startswith("_")}
    if group == "optimizer":
        node = {key: value for key, value in node.items() if key not in scheduled}
    if group == "trainer":  # only the keys that differ from the defaults, and the number of epochs
        defaults = dataclasses.asdict(TrainerConfig()) | {"epochs": None}
        node = {key: value for key, value in node.items() if value != defaults.get(key)}
    pairs = " ".join(f"{key}={_value(value)}" for key, value in node.items() if value is not None)
    return f"{record.parameters['total']:,} parameters  {pairs}" if group == "model" else pairs


def _metric(name: str, value: float) -> str:
    return f"{100 * value:.2f} %" if is_share(name) else _plain(value, 4)


def _short(name: str, value: float) -> str:
    """Return a metric for a progress line; loss and accuracy go without their names."""
    metric = name.partition("/")[2]
    text = f"{100 * value:.1f} %" if is_share(metric) else _plain(value, 3)
    return text if metric in ("loss", "accuracy") else f"{metric} {text}"


def _plain(value: float, decimals: int) -> str:
    """Return a loss with its decimals, or one of a run that diverges as `1.2e+11`."""
    return (
        f"{value:.{decimals}f}"
        if abs(value) < 1000
        else f"{value:.2g}"
        if abs(value) >= 1e5
        else f"{value:.0f}"
    )


def _value(value: Any) -> str:
    """Return a value as the command line takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
