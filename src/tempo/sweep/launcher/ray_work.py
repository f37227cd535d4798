"""What Ray runs on a node: it starts a job in a process of its own, and says what became of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

_LOOK_SECONDS = 0.2


def run_apart(job: str, source: str, threads: int) -> dict[str, Any]:
    """Run a job (a line of JSON for `_cluster_job`) apart from Ray, whose workers serve many jobs.

    A request to cancel makes the run save its state and end. What Ray tells its workers is kept from the
    job, which may be one that starts a Ray of its own; the GPUs that it may see are not.
    """
    # Ray cancels by Python's own interrupt, which does nothing where SIGINT is ignored; and so it is in a
    # sweep that a shell script put into the background, whose Ray inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    path = os.pathsep.join(filter(None, [source, environment.get("PYTHONPATH")]))
    environment |= {"PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen(
        [sys.executable, "-m", "tempo.sweep.launcher.cluster_job"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):
        process.stdin.write(job + "\n")
        process.stdin.close()
    ended = False
    while not ended:
        try:
            ended = process.poll() is not None
            time.sleep(0 if ended else _LOOK_SECONDS)
        except KeyboardInterrupt:  # how Ray cancels, at any instruction
            process.send_signal(signal.SIGTERM)
    said = process.stdout.read().strip()
    return {"code": process.returncode, "outcome": said.splitlines()[-1] if said else ""}
