"""The asynchronous server over emulated hosts, with a host of its own: part of benchmarks/emulated.py.

Every host is a Ray node of its own. Ray starts once; then comes one point after the other, for which the
first N hosts work and the others wait. The steps of a point before its first interval are not timed.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from emulated_worker import EmulatedJob, SleepNetwork
from torch import distributed

from tempo.distributed.ps_async_ray import AsyncWorker
from tempo.distributed.ps_async_server import AsyncServer
from tempo.distributed.ray_cluster import connect
from tempo.errors import UserError

FOLDER = "TEMPO_EMULATED_RAY"
"""Of Ray's own files, in the environment."""
_PORT = 6399
_SERVER = "server"
"""A resource of Ray that the server's host alone has."""
_STORE_BYTES = 1 << 29
_START_SECONDS = 120


@dataclass
class Window:
    """What one worker measured of one point; `marks` are the clock at the start and after each step.

    All hosts read the clock of the one machine.
    """

    marks: list[float] = field(default_factory=list)
    staleness: list[int] = field(default_factory=list)
    sent_bytes: float = 0.0
    received_bytes: float = 0.0


def take_part(files: Sequence[str], own_address: str, counts: Sequence[int]) -> None:
    """Take part in all points; the last rank is the server. `counts` are the workers of each file."""
    distributed.init_process_group("gloo")
    rank, server_rank = distributed.get_rank(), distributed.get_world_size() - 1
    head: list[str] = [own_address]
    distributed.broadcast_object_list(head, src=server_rank)
    at = f"{head[0]}:{_PORT}"
    _start_node(own_address, None if rank == server_rank else at)
    connect(at, own_address)
    for number, (file, count) in enumerate(zip(files, counts, strict=True)):
        job, name = EmulatedJob.read(Path(file)), f"parameter_server_{number}"
        window = (
            _serve(job, name) if rank == server_rank else _work(job, name, rank if rank < count else None)
        )
        windows: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(windows, window)
        if rank == 0:
            _write_point(job, windows[:count])
            print(f"{Path(job.point_file).name} done", flush=True)
    distributed.destroy_process_group()


def _start_node(own_address: str, head: str | None) -> None:
    """Start the server's host first, then one after the other: all at once would not start in time."""
    for turn in reversed(range(distributed.get_world_size())):
        if turn == distributed.get_rank():
            where = ["--head", f"--port={_PORT}", "--include-dashboard=false"]
            only = [f'--resources={{"{_SERVER}": 1}}', f"--temp-dir={os.environ[FOLDER]}"]
            command = [
                sys.executable,
                "-m",
                "ray.scripts.scripts",
                "start",
                f"--node-ip-address={own_address}",
            ]
            command += [f"--object-store-memory={_STORE_BYTES}", "--num-cpus=1", "--disable-usage-stats"]
            command += [*where, *only] if head is None else [f"--address={head}"]
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_START_SECONDS, check=False
            )
            if done.returncode:
                raise UserError(f"Ray does not start on {own_address}: {done.stderr.strip()[-500:]}")
        distributed.barrier()


def _serve(job: EmulatedJob, name: str) -> None:
    import ray

    optimizer = torch.optim.SGD(SleepNetwork(job).parameters(), lr=0.01, momentum=0.9)
    held = ray.remote(num_cpus=0, resources={_SERVER: 0.001})(AsyncServer).options(name=name)
    server = held.remote(optimizer)
    ray.get(server.read_counts.remote())
    distributed.barrier()
    distributed.barrier()
    ray.kill(server)


def _work(job: EmulatedJob, name: str, index: int | None) -> Window | None:
    distributed.barrier()  # the server is there
    window = None if index is None else _window(job, name, index)
    distributed.barrier()
    return window


def _window(job: EmulatedJob, name: str, index: int) -> Window:
    network = SleepNetwork(job)
    parameters = list(network.parameters())
    images = torch.ones(1, requires_grad=True)
    worker = AsyncWorker(parameters, index, name)
    _take(worker)
    window = Window()

    def step() -> int:
        network.zero_grad(set_to_none=True)
        network(images).sum().backward()
        staleness = worker.exchange([variable.grad for variable in parameters if variable.grad is not None])
        _take(worker)
        return staleness

    for _ in range(job.warmup_steps):
        step()
    sent, received = worker.sent_bytes, worker.received_bytes
    window.marks.append(time.monotonic())
    steps = job.steps - job.warmup_steps
    for _ in range(steps):
        window.staleness.append(step())
        window.marks.append(time.monotonic())
    window.sent_bytes = (worker.sent_bytes - sent) / steps
    window.received_bytes = (worker.received_bytes - received) / steps
    return window


def _take(worker: AsyncWorker) -> None:
    while worker.instruction != "work":
        worker.take()


def _steps_of_all(windows: Sequence[Window]) -> list[list[float]]:
    """Return the seconds of each worker's steps that began and ended while all worked."""
    begin = max(window.marks[0] for window in windows)
    end = min(window.marks[-1] for window in windows)
    return [
        [after - before for before, after in pairwise(window.marks) if begin <= before and after <= end]
        for window in windows
    ]


def _write_point(job: EmulatedJob, windows: Sequence[Window]) -> None:
    job.point(
        _steps_of_all(windows),
        dedicated_servers=True,
        overlap=False,
        sent_bytes_by_rank=[window.sent_bytes for window in windows],
        received_bytes_by_rank=[window.received_bytes for window in windows],
        bytes_are="counted",
        staleness=statistics.mean(late for window in windows for late in window.staleness),
        backend="ray",
    ).write(Path(job.point_file))
