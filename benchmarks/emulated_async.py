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
from torch import distributed

from tempo.distributed.ps_async_ray import AsyncWorker, connect
from tempo.distributed.ps_async_server import AsyncServer
from tempo.errors import UserError
from tempo.optimizer.build import build_optimizer
from tempo.scaling.benchmark_job import BenchmarkJob
from tempo.scaling.network import build
from tempo.scaling.point import ScalingPoint, of_this_machine

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

    The clock is the machine's, so all hosts have the same one.
    """

    marks: list[float] = field(default_factory=list)
    staleness: list[int] = field(default_factory=list)
    sent_bytes: float = 0.0
    received_bytes: float = 0.0


def take_part(files: Sequence[str], own_address: str, counts: Sequence[int]) -> None:
    """This host's part of all points; the last rank is the server. `counts` are the workers of each file."""
    distributed.init_process_group("gloo")
    rank, server_rank = distributed.get_rank(), distributed.get_world_size() - 1
    head: list[str] = [own_address]
    distributed.broadcast_object_list(head, src=server_rank)
    at = f"{head[0]}:{_PORT}"
    _start_node(own_address, None if rank == server_rank else at)
    connect(at, own_address)
    for number, (file, count) in enumerate(zip(files, counts, strict=True)):
        job, name = BenchmarkJob.read(Path(file)), f"parameter_server_{number}"
        window = (
            _serve(job, name) if rank == server_rank else _work(job, name, rank if rank < count else None)
        )
        windows: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(windows, window)
        if rank == 0:
            _point(job, windows[:count]).write(Path(job.point_file))
            print(f"{Path(job.point_file).name} done", flush=True)
    distributed.destroy_process_group()


def _start_node(own_address: str, head: str | None) -> None:
    """The server's host first, the others one after the other: together they would not get up in time."""
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


def _serve(job: BenchmarkJob, name: str) -> None:
    import ray

    optimizer = build_optimizer(build(job), job.optimizer)
    held = ray.remote(num_cpus=0, resources={_SERVER: 0.001})(AsyncServer).options(name=name)
    server = held.remote(optimizer)
    ray.get(server.read_counts.remote())
    distributed.barrier()
    distributed.barrier()
    ray.kill(server)


def _work(job: BenchmarkJob, name: str, index: int | None) -> Window | None:
    distributed.barrier()  # the server is there
    window = None if index is None else _window(job, name, index)
    distributed.barrier()
    return window


def _window(job: BenchmarkJob, name: str, index: int) -> Window:
    network = build(job)
    parameters = list(network.parameters())
    images = torch.ones(1, requires_grad=True)
    worker = AsyncWorker(parameters, index, name)
    _take(worker)
    window = Window()

    def step() -> int:
        for each in parameters:
            each.grad = None
        network(images).sum().backward()
        staleness = worker.exchange([each.grad for each in parameters if each.grad is not None])
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
    """Worker by worker, seconds of the steps that were begun and ended while all worked."""
    begin, end = max(each.marks[0] for each in windows), min(each.marks[-1] for each in windows)
    return [
        [after - before for before, after in pairwise(each.marks) if begin <= before and after <= end]
        for each in windows
    ]


def _point(job: BenchmarkJob, windows: Sequence[Window]) -> ScalingPoint:
    of_ranks = _steps_of_all(windows)
    every = [seconds for rank in of_ranks for seconds in rank]
    assert job.sleep is not None
    return ScalingPoint(
        source="emulated",
        method="ps_async",
        model=job.model,
        workers=len(windows),
        images_per_worker=job.images_per_worker,
        step_seconds=statistics.median(every),
        images_per_second=sum(job.images_per_worker / statistics.median(each) for each in of_ranks),
        servers=1,
        placement=job.placement,
        reply="parameters",
        dedicated_servers=True,
        overlap=False,
        step_seconds_quartiles=statistics.quantiles(every, n=4)[::2],
        single_images_per_second=job.single_images_per_second,
        compute_seconds=job.sleep["forward_seconds"] + job.sleep["backward_seconds"],
        gradient_bytes=4 * sum(job.sleep["sizes"]),
        sent_bytes_by_rank=[each.sent_bytes for each in windows],
        received_bytes_by_rank=[each.received_bytes for each in windows],
        bytes_are="counted",
        staleness=statistics.mean(late for each in windows for late in each.staleness),
        steps=job.steps,
        warmup_steps=job.warmup_steps,
        compute="sleep",
        link=job.link,
        bytes_per_second=job.bytes_per_second,
        message_seconds=job.message_seconds,
        threads=job.threads,
        backend="ray",
        precision=job.precision,
        command=job.command,
        note=job.note,
        **of_this_machine(),
    )
