"""Progress of a sweep: one line per job that ends, with the time left."""

from __future__ import annotations

import time
from collections.abc import Callable

from tempo.record.run_json import RunRecord


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

    @property
    def ended(self) -> int:
        """Number of jobs that have ended, including those of earlier commands."""
        return self.done_before + len(self.seconds)

    def start(self, slug: str) -> None:
        """Note when a job starts."""
        self._started[slug] = self.clock()

    def end(self, slug: str, record: RunRecord | None, unrecorded: str = "") -> str:
        """Return `job 3/12 wd=1e-5,seed=0: completed val/accuracy 0.9871 in 12 s; 4 min left`.

        `unrecorded` is the reason why the job ended, if its record could not be written.
        """
        now = self.clock()
        seconds = now - self._started.get(slug, now)
        self.seconds.append(seconds)
        ended = f"failed ({unrecorded})" if unrecorded else outcome(record)
        line = f"job {self.ended}/{self.total} {slug}: {ended} in {duration(seconds)}"
        left = self.total - self.ended
        if not left:
            return line
        # Towards the end there are fewer jobs than could run at the same time.
        rounds = left / min(self.n_at_once, left)
        return f"{line}; {duration(rounds * sum(self.seconds) / len(self.seconds))} left"


def outcome(record: RunRecord | None) -> str:
    """Return the status, with the objective or the reason if there is one."""
    if record is None:
        return "ended without a record"
    value = record.objective.get("value")
    if record.status == "completed" and isinstance(value, float):
        return f"completed {record.objective['name']} {value:.4f}"
    return f"{record.status} ({record.reason})" if record.reason else record.status


def duration(seconds: float) -> str:
    """Return `12 s`, `4 min` or `1 h 20 min`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
