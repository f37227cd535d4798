"""One process of a group: `torchrun -m tempo.run.worker <job.json>`."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from tempo.config.check import check
from tempo.distributed.parent_death import die_with_parent
from tempo.distributed.process_group import is_asynchronous
from tempo.errors import UserError
from tempo.run.async_worker import follow
from tempo.run.process_launch import ERROR_FILE
from tempo.run.run_request import Job
from tempo.run.train import run
from tempo.trainer.search_trial import Trial


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
        config=check(values["config"]),
        folder=folder,
        overrides=values["overrides"],
        choices=values["choices"],
        stop_after=values["stop_after"],
        started=time.perf_counter() - (time.time() - values["started_unix"]),
        trial=Trial.from_environment(),
    )
    follows = rank > 0 and is_asynchronous(job.config["trainer"])
    try:
        (follow if follows else run)(job)
    except UserError as error:
        if not follows:  # which ends nobody but itself
            _tell(folder, {"refused": str(error)})
        sys.exit(str(error))
    except Exception as error:
        if not follows:
            _tell(folder, {"rank": rank, "raised": f"{type(error).__name__}: {error}".splitlines()[0]})
        raise


def _tell(folder: Path, cause: dict[str, Any]) -> None:
    """Leave the cause for the starter, unless another rank has: what follows from it helps no reader.

    Which rank could write the record is chance: the first one that fails ends the others.
    """
    with contextlib.suppress(FileExistsError), (folder / "ranks" / ERROR_FILE).open("x") as file:
        json.dump(cause, file)


if __name__ == "__main__":
    main()
