"""State of a sweep's jobs in SLURM: its queue, from squeue, and the job ids that the sweep has stored."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tempo.errors import UserError
from tempo.record.atomic_write import write_atomically
from tempo.record.read_file import read_text

# States from which a job can return by itself are left out: REQUEUED, SUSPENDED, COMPLETING, ...
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
# Reasons for which a pending job would wait forever.
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
_UNNAMED = "?_"


@dataclass(frozen=True)
class QueuedJob:
    """A job in the queue: SLURM's name for its state, why it waits, and the path of its batch script."""

    state: str
    reason: str
    script: str = ""

    @property
    def is_over(self) -> bool:
        """Whether SLURM has ended the job."""
        return self.state in _OVER

    @property
    def never_starts(self) -> bool:
        """Whether the job asks for more than the partition or account allows."""
        return self.state == "PENDING" and self.reason in _HOPELESS


def queue() -> dict[str, QueuedJob]:
    """Return all jobs of this user that SLURM remembers; an array's element has the id `<array>_<index>`.

    Raises:
        UserError: squeue does not answer.
    """
    # Ask for all jobs, not for our ids, because squeue fails if SLURM has forgotten one of them. Unlike
    # sacct, squeue works without an accounting database.
    format_ = "--format=%i|%T|%r|%o"
    text = _output_of("squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}", format_)
    rows = [(*line.strip().split("|", 3), "", "", "") for line in text.splitlines()]
    return {row[0]: QueuedJob(*row[1:4]) for row in rows}


def largest_array(otherwise: int = 1000) -> int:
    """Return the largest number of jobs in one array."""
    for line in _output_of("scontrol", "show", "config").splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "MaxArraySize" and value.strip().isdigit():
            return max(1, int(value) - 1)
    return otherwise


def cancel(jobs: Iterable[str]) -> None:
    """Cancel jobs."""
    _output_of("scancel", *jobs)


def _output_of(*command: str) -> str:
    options = {"capture_output": True, "text": True, "timeout": _TIMEOUT_SECONDS, "errors": "replace"}
    try:
        done = subprocess.run(command, check=False, **options)  # type: ignore[call-overload]
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{command[0]} did not answer within {_TIMEOUT_SECONDS} s; is SLURM up?") from error
    if done.returncode != 0:
        raise UserError(f"{command[0]}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return str(done.stdout)


@dataclass(frozen=True)
class Submitted:
    """A job that sbatch has accepted."""

    job: str
    """Its id: `<array>_<index>` for an element of an array, or `?_<index>` until sbatch returns the id."""
    tasks: int
    config_hash: str
    submitted_unix: float


class SubmittedJobs:
    """The ids of a sweep's jobs in `<sweep>/slurm/jobs.json`, by which a killed sweep finds its jobs again.

    The file is also written, without ids, before sbatch is called. If the command is killed before it can
    write an id, the job is found by its batch script, which is in the same folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "jobs.json"

    def read(self) -> dict[str, Submitted]:
        """Return the last submission of each job, by the name of its folder."""
        try:
            values = json.loads(read_text(self.path))
            return {slug: Submitted(**entry) for slug, entry in values.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise UserError(
                f"{self.path} cannot be read, so running jobs cannot be found; look for them with squeue, "
                "then delete the file"
            ) from error

    def intend(self, jobs: Mapping[str, Submitted]) -> None:
        """Store the jobs that are about to be submitted, in the order of the array."""
        unnamed = {
            slug: replace(entry, job=f"{_UNNAMED}{at}") for at, (slug, entry) in enumerate(jobs.items())
        }
        self.write({**self.read(), **unnamed})

    def complete(self, found: Mapping[str, QueuedJob]) -> list[str]:
        """Fill in missing ids from the queue; return the jobs that cannot run and must be cancelled.

        These lack the file that submitit gives a job only after sbatch has named it.
        """
        known = self.read()
        unnamed = {slug: entry for slug, entry in known.items() if entry.job.startswith(_UNNAMED)}
        if not unnamed:
            return []
        arrays = {entry.job.partition("_")[0] for entry in known.values()}
        lost = {
            job.partition("_")[2] or "0": job
            for job, entry in found.items()
            if Path(entry.script).parent == self.path.parent.absolute()
            and job.partition("_")[0] not in arrays
        }
        ready = {at: job for at, job in lost.items() if (self.path.parent / f"{job}_submitted.pkl").exists()}
        kept = {slug: entry for slug, entry in known.items() if slug not in unnamed}
        for slug, entry in unnamed.items():
            if (job := ready.get(entry.job.removeprefix(_UNNAMED))) is not None:
                kept[slug] = replace(entry, job=job)
        self.write(kept)
        return [job for at, job in lost.items() if at not in ready and not found[job].is_over]

    def write(self, jobs: Mapping[str, Submitted]) -> None:
        """Replace the file atomically."""
        values = {slug: asdict(entry) for slug, entry in jobs.items()}
        write_atomically(self.path, json.dumps(values, indent=2) + "\n")
