"""Start the processes of `trainer.method=ps_async`: `python -m tempo.run.async_group <workers> <job.json>`.

torchrun is not used because it ends all processes when one dies; here training continues without it.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from tempo.distributed.child_process import ChildProcess, die_with_parent, exit_reason
from tempo.distributed.interrupt_counter import StopSignals
from tempo.distributed.ray_cluster import SERVER, lose_worker, ray_cluster, variables_of_server

_LOOK_SECONDS = 0.2
_LEAVE_SECONDS = 5.0


def main() -> None:
    """Start Ray and the workers, and end with the first worker, which writes the record."""
    count, job_file = int(sys.argv[1]), sys.argv[2]
    parent = os.getppid()
    workers: list[ChildProcess] = []

    def stop(number: int) -> None:
        if not workers or os.getppid() != parent:
            sys.exit(128 + number)
        workers[0].send(number)  # it saves and stops; its end makes `_wait` end the others

    with StopSignals(stop):
        # SIGTERM, not SIGKILL: two of Ray's processes would outlive a killed parent by a minute.
        die_with_parent(parent, signal.SIGTERM)
        with ray_cluster() as address:
            try:
                place = variables_of_server(address)
                workers += [_start(rank, count, place, job_file) for rank in range(count)]
                code = _wait(workers, place[SERVER])
            finally:
                for worker in workers:
                    worker.kill()
    sys.exit(code if code >= 0 else 128 - code)


def _start(rank: int, count: int, place: dict[str, str], job_file: str) -> ChildProcess:
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    variables = {**os.environ, **{name: str(value) for name, value in ranks.items()}, **place}
    return ChildProcess.run_module("tempo.run.worker", job_file, environment=variables)


def _wait(workers: list[ChildProcess], server: str) -> int:
    """Return the exit code of the first worker; if another worker dies earlier, the server drops it."""
    first, *others = workers
    lost: set[int] = set()
    while (code := first.exit_code()) is None:
        for rank, worker in enumerate(others, 1):
            if rank not in lost and (ended := worker.exit_code()) and lose_worker(rank, server):
                lost.add(rank)
                print(f"worker {rank} died ({exit_reason(ended)}); training continues without it", flush=True)
        time.sleep(_LOOK_SECONDS)
    deadline = time.monotonic() + (_LEAVE_SECONDS if code == 0 else 0)
    while any(worker.exit_code() is None for worker in others) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    return code


if __name__ == "__main__":
    main()
