"""One process of a group: `torchrun -m tempo.worker <job.json>`."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from tempo.errors import UserError
from tempo.job import Job
from tempo.launch import ERROR_FILE
from tempo.parent_death import die_with_parent
from tempo.record import write_atomically
from tempo.run import run
from tempo.trial import Trial


def main() -> None:
    """Run this rank's part; ranks above 0 write what they print into a file."""
    die_with_parent()
    values = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder, rank = Path(values["folder"]), int(os.environ["RANK"])
    if rank > 0:
        log = (folder / "ranks" / f"rank{rank}.log").open("a", encoding="utf-8")
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
    job = Job(
        config=values["config"],
        folder=folder,
        overrides=values["overrides"],
        choices=values["choices"],
        stop_after=values["stop_after"],
        started=time.perf_counter() - (time.time() - values["started_unix"]),
        trial=Trial.from_environment(),
    )
    try:
        run(job)
    except UserError as error:
        # The first rank that fails ends the others: which one could write the record is chance.
        write_atomically(folder / "ranks" / ERROR_FILE, str(error))
        sys.exit(str(error))


if __name__ == "__main__":
    main()
