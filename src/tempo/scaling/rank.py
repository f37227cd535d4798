"""One process of the benchmark: `python -m tempo.scaling.rank <job.json>`, with torchrun's variables set.

RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT say which process it is and where they meet. Rank 0
writes the point. What a user can mend is one line on stderr and exit code 1.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import distributed

from tempo.distributed.child_process import die_with_parent
from tempo.errors import UserError
from tempo.scaling.benchmark_job import BenchmarkJob
from tempo.scaling.point import ScalingPoint, of_this_machine
from tempo.scaling.timing import (
    differences,
    seconds_a_step,
    stepped_and_behind,
    trained_images_per_second,
)
from tempo.scaling.worker_step import WorkerStep
from tempo.trainer.freed_memory import keep_freed_memory
from tempo.trainer.process_settings import set_numerics


@dataclass(frozen=True)
class Timing:
    """What one worker measured: seconds since the common start at the end of each interval, and its bytes."""

    marks: Sequence[float]
    compute_seconds: float
    sent_bytes: float
    received_bytes: float
    stepped: Sequence[float]
    """Gradients of each interval that were not dropped."""
    behind: Sequence[float]
    """Sum of their staleness, interval by interval."""


def main() -> None:
    """Measure, and let rank 0 write."""
    die_with_parent()
    # The new name of torch 2.14 is not in the oldest torch that is supported.
    warnings.filterwarnings("ignore", message=".broadcast_buffers. is deprecated")
    try:
        measure(BenchmarkJob.read(Path(sys.argv[1])))
    except UserError as error:
        sys.exit(str(error))


def measure(job: BenchmarkJob) -> None:
    """This rank's part of a point.

    Raises:
        UserError: a device that is not there, a meeting place that is taken, a network that cannot be built.
    """
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    torch.set_num_threads(job.threads)
    set_numerics(deterministic=True, matmul_precision=job.matmul_precision)
    device = _device(job)
    if device.type == "cpu":
        keep_freed_memory()
    _meet(job, world_size)
    try:
        worker = WorkerStep(job, device, world_size, rank)
        timings = _gather(_timing(job, worker, world_size), device, world_size)
        if rank == 0:
            _point(job, worker, timings).write(Path(job.point_file))
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _device(job: BenchmarkJob) -> torch.device:
    if job.accelerator == "cpu":
        return torch.device("cpu")
    local, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= there:
        raise UserError(f"worker {local} has no GPU of its own, this machine has {there}: fewer workers")
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def _meet(job: BenchmarkJob, world_size: int) -> None:
    if world_size == 1:
        return
    if missing := [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]:
        raise UserError(
            f"a worker of {world_size} needs {' and '.join(missing)} in the environment to meet the others: "
            f"torchrun --nproc-per-node={world_size} -m tempo.scaling.rank <job.json>, or src/scale.py"
        )
    try:
        # Beside an asynchronous server the workers only wait for each other.
        distributed.init_process_group("gloo" if job.method == "ps_async" else job.backend)
    except distributed.DistNetworkError as error:
        address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        reason = str(error).partition("\n")[0][:300]
        raise UserError(
            f"the workers cannot meet at {address}: {reason}; scaling.port=<another>, or MASTER_PORT"
        ) from error


def _timing(job: BenchmarkJob, worker: WorkerStep, world_size: int) -> Timing:
    for _ in range(job.warmup_steps):
        worker.take()
    compute: list[float] = []
    if worker.exchanges:
        compute = _intervals(worker, worker.compute, job.compute_steps, 1, world_size)
    if compute:  # brings the weights together again
        worker.take()
    worker.staleness.clear()
    sent, received = worker.counted_bytes
    measured = job.steps - job.warmup_steps
    marks = _intervals(worker, worker.take, measured, job.interval_steps, world_size)
    now_sent, now_received = worker.counted_bytes
    steps = len(marks) * job.interval_steps
    stepped, behind = stepped_and_behind(worker.staleness, len(marks), job.interval_steps)
    return Timing(
        marks=marks,
        compute_seconds=statistics.median(differences(compute)) if compute else math.nan,
        sent_bytes=(now_sent - sent) / steps,
        received_bytes=(now_received - received) / steps,
        stepped=stepped,
        behind=behind,
    )


def _intervals(
    worker: WorkerStep, step: Callable[[], None], steps: int, of: int, world_size: int
) -> list[float]:
    """Seconds since the common start at the end of every `of` steps; what is left over is not taken."""
    worker.synchronize()
    if world_size > 1:
        distributed.barrier()
    begin, marks = time.perf_counter(), []
    for _ in range(steps // of):
        for _ in range(of):
            step()
        worker.synchronize()
        marks.append(time.perf_counter() - begin)
    return marks


def _gather(timing: Timing, device: torch.device, world_size: int) -> list[Timing]:
    if world_size == 1:
        return [timing]
    first = [timing.compute_seconds, timing.sent_bytes, timing.received_bytes]
    mine = torch.tensor([*first, *timing.marks, *timing.stepped, *timing.behind], dtype=torch.float64)
    if distributed.get_backend() == "nccl":
        mine = mine.to(device)
    rows = [torch.zeros_like(mine) for _ in range(world_size)]
    distributed.all_gather(rows, mine)
    found = []
    for row in rows:
        compute, sent, received = row[:3].tolist()
        marks, stepped, behind = row[3:].view(3, -1).tolist()
        found.append(Timing(marks, compute, sent, received, stepped, behind))
    return found


def _point(job: BenchmarkJob, worker: WorkerStep, timings: Sequence[Timing]) -> ScalingPoint:
    of_ranks = seconds_a_step([each.marks for each in timings], job.interval_steps)
    stepped = [each.stepped[: len(kept)] for each, kept in zip(timings, of_ranks, strict=True)]
    behind = [each.behind[: len(kept)] for each, kept in zip(timings, of_ranks, strict=True)]
    asynchronous = job.method == "ps_async"
    applied, sent = sum(map(sum, stepped)), job.interval_steps * sum(map(len, of_ranks))
    every = [seconds for rank in of_ranks for seconds in rank]
    step_seconds = statistics.median(every)
    of_compute = statistics.mean(each.compute_seconds for each in timings)
    if not worker.exchanges:
        of_compute = step_seconds
    rate = sum(
        trained_images_per_second(job.images_per_worker, seconds, kept, job.interval_steps)
        for seconds, kept in zip(of_ranks, stepped, strict=True)
    )
    workers = len(timings)
    ring = job.method == "ring"
    ring_bytes = 2 * (workers - 1) / workers * worker.wire_bytes
    on_gpu = worker.device.type == "cuda"
    machine = of_this_machine()
    if on_gpu:
        machine |= {"device": torch.cuda.get_device_name(worker.device)}
    single = job.single_images_per_second
    return ScalingPoint(
        source=job.source,
        method=job.method,
        model=job.model,
        workers=workers,
        images_per_worker=job.images_per_worker,
        step_seconds=step_seconds,
        images_per_second=rate,
        image_size=job.image_size if job.sleep is None else 0,
        servers=0 if ring else job.servers,
        placement="" if ring else job.placement,
        reply="" if ring else job.reply,
        overlap=ring and workers > 1 and job.bucket_mb * 2**20 < worker.gradient_bytes,
        step_seconds_quartiles=statistics.quantiles(every, n=4)[::2] if len(every) > 1 else [],
        single_images_per_second=rate if workers == 1 and ring else single,
        compute_seconds=of_compute if math.isfinite(of_compute) else None,
        gradient_bytes=worker.gradient_bytes,
        sent_bytes_by_rank=[ring_bytes] * workers if ring else [each.sent_bytes for each in timings],
        received_bytes_by_rank=[ring_bytes] * workers if ring else [each.received_bytes for each in timings],
        bytes_are="computed" if ring else "counted",
        staleness=sum(map(sum, behind)) / max(1, applied) if asynchronous else None,
        sent_gradients=sent if asynchronous else 0,
        dropped_gradients=int(sent - applied),
        steps=job.steps,
        warmup_steps=job.warmup_steps,
        compute="network" if job.sleep is None else "sleep",
        link=job.link,
        bytes_per_second=job.bytes_per_second,
        message_seconds=job.message_seconds,
        accelerator=job.accelerator,
        threads=job.threads,
        backend="ray" if job.method == "ps_async" else job.backend if workers > 1 else "",
        precision=job.precision,
        command=job.command,
        note=job.note,
        **machine,
    )


if __name__ == "__main__":
    main()
