"""The processes of `trainer.method=ps_async`: `python -m tempo.run.async_group <workers> <job.json>`.

Not torchrun, which ends all processes with the first that dies: here training goes on without it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import FrameType

from tempo.distributed.parent_death import die_with_parent
from tempo.distributed.ps_async_ray import SERVER, lose_worker, ray_cluster, variables_of_server

_LOOK_SECONDS = 0.2
_LEAVE_SECONDS = 5.0


def main() -> None:
    """Start Ray and the workers, and end with the first worker, which has the record; its exit code."""
    count, job_file = int(sys.argv[1]), sys.argv[2]
    parent = os.getppid()
    signal.signal(signal.SIGTERM, _leave)
    # Two of Ray's processes outlive it by a minute where it is killed; asked to go, it takes them along.
    die_with_parent(parent, signal.SIGTERM)
    workers: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        if os.getppid() != parent:
            _leave(number, frame)
        workers[0].send_signal(number)

    with ray_cluster() as address:
        try:
            # The terminal sends Ctrl-C to the first worker itself; it saves, stops, and so ends the rest.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            place = variables_of_server(address)
            workers += [_start(rank, count, place, job_file) for rank in range(count)]
            signal.signal(signal.SIGTERM, pass_on)
            code = _wait(workers, place[SERVER])
        finally:
            for each in workers:
                each.kill()
    sys.exit(code if code >= 0 else 128 - code)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _start(rank: int, count: int, place: dict[str, str], job_file: str) -> subprocess.Popen[bytes]:
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    variables = {**os.environ, **{name: str(value) for name, value in ranks.items()}, **place}
    return subprocess.Popen([sys.executable, "-m", "tempo.run.worker", job_file], env=variables)


def _wait(workers: list[subprocess.Popen[bytes]], server: str) -> int:
    """Exit code of the first worker; whichever other dies before is the loss of the server."""
    first, *others = workers
    lost: set[int] = set()
    while True:
        try:
            code = first.wait(_LOOK_SECONDS)
            break
        except subprocess.TimeoutExpired:
            for rank, process in enumerate(others, 1):
                if rank not in lost and process.poll() and lose_worker(rank, server):
                    lost.add(rank)
                    code = process.returncode
                    print(f"worker {rank} died, exit code {code}: the run goes on without it", flush=True)
    for each in others:
        try:
            each.wait(_LEAVE_SECONDS if code == 0 else 0)
        except subprocess.TimeoutExpired:
            each.kill()
            each.wait()
    return code


if __name__ == "__main__":
    main()
