"""The numbers of one machine that the cost model asks for: one worker's computing, and one link."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from tempo.errors import UserError
from tempo.optimizer.build import build_optimizer
from tempo.paths import ROOT
from tempo.scaling.benchmark_job import BenchmarkJob
from tempo.scaling.link import Link
from tempo.scaling.network import variable_sizes
from tempo.scaling.point import of_this_machine
from tempo.scaling.prediction import Calibration
from tempo.scaling.worker_step import WorkerStep

_STEPS, _WARMUP_STEPS = 7, 2
_LINK_SECONDS = 120


def calibrate(job: BenchmarkJob, link: Link | None = None) -> Calibration:
    """Measure one worker of a job in this process and, unless it is given, the link between two processes.

    T_f and T_opt are timed alone, T_b is the rest of a step; medians of 7. `link` is what
    `tempo.scaling.link` measured between two hosts; without it both processes are on this machine.

    Raises:
        UserError: the two processes do not find each other.
    """
    device = torch.device(job.accelerator if job.accelerator == "cpu" else "cuda")
    torch.set_num_threads(job.threads)
    link = link or link_of_this_machine(_backend_of(job))
    # Alone, so that no method has anybody to exchange with.
    worker = WorkerStep(replace(job, method="ring"), device, rank=0, world_size=1)
    step_seconds = _seconds(worker.compute, worker)
    forward_seconds = _seconds(worker.forward, worker)
    optimizer_seconds = _seconds(worker.optimizer.step, worker)
    sizes = variable_sizes(worker.module)
    return Calibration(
        model=job.model,
        images_per_worker=job.images_per_worker,
        image_size=job.image_size,
        forward_seconds=forward_seconds,
        backward_seconds=max(step_seconds - forward_seconds - optimizer_seconds, 0.0),
        optimizer_seconds=optimizer_seconds,
        apply_seconds=apply_seconds(sizes, job),
        sizes=sizes,
        element_bytes=worker.wire_bytes // sum(sizes),
        bytes_per_second=link.bytes_per_second,
        message_seconds=link.message_seconds,
        bucket_mb=job.bucket_mb,
        duplex=link.duplex,
        of_machine=of_this_machine()
        | {
            "threads": job.threads,
            "accelerator": job.accelerator,
            "backend": link.backend,
            "precision": job.precision,
            "link": job.link,
            "command": job.command,
        },
    )


def apply_seconds(sizes: list[int], job: BenchmarkJob) -> float:
    """The optimizer's step of a server, which computes on the CPU: t_apply."""
    held = nn.ParameterList(nn.Parameter(torch.zeros(size)) for size in sizes)
    for each in held:
        each.grad = torch.zeros_like(each)
    return _seconds(build_optimizer(held, job.optimizer).step)


def link_of_this_machine(backend: str) -> Link:
    """Ping-pong between two processes of this machine.

    Raises:
        UserError: they fail, or do not end.
    """
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        path = Path(folder) / "link.json"
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
        source = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tempo.scaling.link", str(path), backend],
                env={
                    **os.environ,
                    **meeting,
                    "RANK": str(rank),
                    "LOCAL_RANK": str(rank),
                    "PYTHONPATH": source,
                },
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in (0, 1)
        ]
        try:
            ends = [each.communicate(timeout=_LINK_SECONDS)[1] for each in processes]
        except subprocess.TimeoutExpired as error:
            raise UserError(
                f"two processes of this machine sent nothing to each other over {backend} in "
                f"{_LINK_SECONDS} s: GLOO_SOCKET_IFNAME=lo names the interface"
            ) from error
        finally:
            for each in processes:
                each.kill()
        if not path.exists():
            last = (ends[0].strip() or ends[1].strip() or "no message").splitlines()[-1]
            raise UserError(f"the link over {backend} could not be measured: {last}")
        return Link.read(path)


def _backend_of(job: BenchmarkJob) -> str:
    # NCCL has no two ends on one device.
    return job.backend if job.accelerator == "cpu" or torch.cuda.device_count() > 1 else "gloo"


def _seconds(action: Callable[[], object], worker: WorkerStep | None = None) -> float:
    found = []
    for number in range(_WARMUP_STEPS + _STEPS):
        begin = time.perf_counter()
        action()
        if worker is not None:
            worker.synchronize()
        if number >= _WARMUP_STEPS:
            found.append(time.perf_counter() - begin)
    return statistics.median(found)
