"""Progress of a sweep: one line per job that ends, and on a terminal one bar with the time left."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from tempo.record.metric_names import is_share
from tempo.record.run_json import RunRecord

_BAR_COLUMNS = 20
_bars: list[Any] = []
"""The bar of rich on the terminal, if there is one: lines go above it."""


def say(line: str) -> None:
    """Print and flush, so that the lines of jobs and of the sweep stay in order."""
    if _bars:
        _bars[-1].console.print(line, markup=False, highlight=False, soft_wrap=True)
    else:
        print(line, flush=True)


class Progress:
    """Counts jobs and estimates the time left: mean duration so far, `n_at_once` jobs at a time."""

    def __init__(
        self, *, total: int, done_before: int, n_at_once: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total = total
        self.done_before = done_before
        self.n_at_once = n_at_once
        self.clock = clock
        self.seconds: list[float] = []
        self._started: dict[str, float] = {}
        self._running: list[str] = []

    @contextlib.contextmanager
    def bar(self) -> Iterator[None]:
        """Show a bar below the lines, if the output is a terminal."""
        if not sys.stdout.isatty():
            yield
            return
        from rich import progress as rich_progress  # most sweeps write to a file

        # Drawn only when a job starts or ends: a thread that draws would be forked with the jobs.
        bar = rich_progress.Progress(
            rich_progress.TextColumn("{task.completed:.0f} of {task.total:.0f} jobs"),
            rich_progress.BarColumn(bar_width=_BAR_COLUMNS),
            rich_progress.TextColumn("{task.description}", markup=False),
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            transient=True,
        )
        bar.add_task("", total=self.total, completed=self.done_before)
        with bar:
            _bars.append(bar)
            try:
                yield
            finally:
                _bars.pop()

    def _draw(self) -> None:
        if not _bars:
            return
        left = self.left()
        words = f"{left} left; running {', '.join(self._running)}" if left else ", ".join(self._running)
        for task in _bars[-1].task_ids:
            _bars[-1].update(task, completed=self.ended, description=words, refresh=True)

    @property
    def ended(self) -> int:
        """Number of jobs that have ended, including those of earlier commands."""
        return self.done_before + len(self.seconds)

    def start(self, slug: str) -> None:
        """Note when a job starts."""
        self._started[slug] = self.clock()
        self._running.append(slug)
        self._draw()

    def end(self, slug: str, record: RunRecord | None, unrecorded: str = "") -> str:
        """Return `job 3/12 wd=1e-5,seed=0: completed val/accuracy 98.71 % in 12 s; 4 min left`.

        A terminal has the time left in its bar.

        `unrecorded` is the reason why the job ended, if its record could not be written.
        """
        now = self.clock()
        seconds = now - self._started.get(slug, now)
        self.seconds.append(seconds)
        ended = f"failed ({unrecorded})" if unrecorded else outcome(record)
        if slug in self._running:
            self._running.remove(slug)
        self._draw()
        line = f"job {self.ended}/{self.total} {slug}: {ended} in {duration(seconds)}"
        left = self.left()
        return f"{line}; {left} left" if left and not _bars else line

    def left(self) -> str:
        """Return the time that the jobs which have not ended will take, or "" if it is unknown or zero."""
        left = self.total - self.ended
        if left <= 0 or not self.seconds:
            return ""
        # Towards the end there are fewer jobs than could run at the same time.
        rounds = left / min(self.n_at_once, left)
        return duration(rounds * sum(self.seconds) / len(self.seconds))


def outcome(record: RunRecord | None) -> str:
    """Return the status, with the objective or the reason if there is one."""
    if record is None:
        return "ended without a record"
    value = record.objective.get("value")
    if record.status == "completed" and isinstance(value, float):
        name = record.objective["name"]
        amount = f"{100 * value:.2f} %" if is_share(name.partition("/")[2]) else f"{value:.4g}"
        return f"completed {name} {amount}"
    return f"{record.status} ({record.reason})" if record.reason else record.status


def duration(seconds: float) -> str:
    """Return `12 s`, `4 min` or `1 h 20 min`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
