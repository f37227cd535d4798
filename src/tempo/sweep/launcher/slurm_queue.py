"""What SLURM says of our jobs: `squeue`, which is there without an accounting data base."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tempo.errors import UserError
from tempo.record.atomic_write import write_atomically

# What a job comes out of by itself is not among them: REQUEUED, SUSPENDED, COMPLETING, ...
_OVER = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
}
# Why a job waits that would wait for ever.
_HOPELESS = {
    "AccountNotAllowed",
    "BadConstraints",
    "InvalidAccount",
    "InvalidQOS",
    "PartitionConfig",
    "PartitionNodeLimit",
    "PartitionTimeLimit",
    "QOSNotAllowed",
}
_TIMEOUT_SECONDS = 60
_OPEN = "?_"


@dataclass(frozen=True)
class Place:
    """A job in the queue: its state in SLURM's words, why it waits, and the path of its batch script."""

    state: str
    reason: str
    script: str = ""

    @property
    def is_over(self) -> bool:
        """Whether SLURM has done with it."""
        return self.state in _OVER

    @property
    def never_starts(self) -> bool:
        """Whether it asks for what the partition does not give."""
        return self.state == "PENDING" and self.reason in _HOPELESS


def queue() -> dict[str, Place]:
    """All jobs of this user that SLURM remembers, an element of an array as `<array>_<index>`.

    Raises:
        UserError: squeue does not answer.
    """
    # Not by their ids: squeue fails where SLURM has forgotten one of them.
    format_ = "--format=%i|%T|%r|%o"
    text = _said(["squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}", format_])
    found = {}
    for line in text.splitlines():
        job, state, reason, script = (*line.strip().split("|", 3), "", "", "")[:4]
        found[job] = Place(state, reason, script)
    return found


def largest_array(otherwise: int = 1000) -> int:
    """Jobs that one array may have."""
    for line in _said(["scontrol", "show", "config"]).splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "MaxArraySize" and value.strip().isdigit():
            return max(1, int(value) - 1)
    return otherwise


def cancel(jobs: Iterable[str]) -> None:
    """Take jobs out of the queue."""
    _said(["scancel", *jobs])


def _said(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False, errors="replace"
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{command[0]} did not answer within {_TIMEOUT_SECONDS} s: is SLURM up?") from error
    if done.returncode != 0:
        raise UserError(f"{command[0]}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout


@dataclass(frozen=True)
class Submitted:
    """A job that sbatch has taken."""

    job: str
    """Its id; of an element of an array, `<array>_<index>`, where sbatch has yet to name it `?_<index>`."""
    tasks: int
    config_hash: str
    submitted_unix: float


class JobIds:
    """The ids of a sweep's jobs, in a file of its folder: a sweep that was killed finds its jobs again.

    Written before sbatch is called as well, with the id open: what a command that is killed before it can
    write the id has submitted is found by its batch script, which lies in the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "jobs.json"

    def read(self) -> dict[str, Submitted]:
        """Name of a job's folder -> what was submitted for it last."""
        try:
            values = json.loads(self.path.read_text(encoding="utf-8"))
            return {slug: Submitted(**each) for slug, each in values.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise UserError(
                f"{self.path} cannot be read, so jobs that are still at work cannot be found: look with "
                "squeue, then delete the file"
            ) from error

    def intend(self, jobs: Mapping[str, Submitted]) -> None:
        """Write down what sbatch is about to be asked for, in the order of the array."""
        opened = {slug: replace(each, job=_OPEN + str(at)) for at, (slug, each) in enumerate(jobs.items())}
        self.write({**self.read(), **opened})

    def settle(self, there: Mapping[str, Place]) -> list[str]:
        """Fill in the ids that were left open, from the queue; jobs that cannot run and must be cancelled.

        Those are without the file that submitit gives a job only after sbatch has named it.
        """
        known = self.read()
        opened = {slug: each for slug, each in known.items() if each.job.startswith(_OPEN)}
        if not opened:
            return []
        arrays = {each.job.partition("_")[0] for each in known.values()}
        lost = {
            job.partition("_")[2] or "0": job
            for job, place in there.items()
            if Path(place.script).parent == self.path.parent.absolute()
            and job.partition("_")[0] not in arrays
        }
        ready = {at: job for at, job in lost.items() if (self.path.parent / f"{job}_submitted.pkl").exists()}
        kept = {slug: each for slug, each in known.items() if slug not in opened}
        for slug, each in opened.items():
            if (job := ready.get(each.job.removeprefix(_OPEN))) is not None:
                kept[slug] = replace(each, job=job)
        self.write(kept)
        return [job for at, job in lost.items() if at not in ready and not there[job].is_over]

    def write(self, jobs: Mapping[str, Submitted]) -> None:
        """Replace the file in one step."""
        values = {slug: asdict(each) for slug, each in jobs.items()}
        write_atomically(self.path, json.dumps(values, indent=2) + "\n")


class Watch:
    """Asks the queue rarely: every two seconds at first, twice a minute in the end."""

    def __init__(self) -> None:
        self._began = self._next = time.monotonic()
        self.complaint = ""

    def look(self) -> dict[str, Place] | None:
        """The queue; None where it was asked a moment ago, or does not answer."""
        now = time.monotonic()
        if now < self._next:
            return None
        self._next = now + min(30.0, max(2.0, (now - self._began) / 20))
        try:
            found = queue()
        except UserError as error:  # a controller that is restarted is no end of the jobs
            self.complaint = str(error)
            return None
        self.complaint = ""
        return found
