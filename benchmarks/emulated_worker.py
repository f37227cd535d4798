"""A worker of an emulated host: real messages, and a sleep in the place of computing.

`python benchmarks/emulated_worker.py FILE`, with torchrun's variables set, takes part in the job of a file;
rank 0 writes the point. benchmarks/emulated.py runs many of them.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import sys
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import torch  # noqa: E402
from torch import Tensor, distributed, nn  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402

from tempo.distributed.ps_sync import ServerSettings, SyncServer, use_server  # noqa: E402
from tempo.scaling.measured_point import ScalingPoint, of_this_machine  # noqa: E402


@dataclass(frozen=True, kw_only=True)
class EmulatedJob:
    """One point to be measured.

    `sizes`: elements of each variable in the network's order, float32. `bucket_mb`: size in which DDP sends
    gradients; larger than the network = no overlap. `known`: fields of the point that are known beforehand.
    """

    point_file: str
    method: str
    forward_seconds: float
    backward_seconds: float
    sizes: list[int]
    warmup_steps: int
    steps: int
    bucket_mb: float
    servers: int = 1
    placement: Any = "by_size"
    reply: Any = "parameters"
    images_per_worker: int = 32
    known: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write the file."""
        path.write_text(json.dumps(dataclasses.asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> EmulatedJob:
        """Undo `write`."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def point(self, steps_of_ranks: list[list[float]], **measured: Any) -> ScalingPoint:
        """Return the point of the seconds of each rank's steps."""
        every = [seconds for steps in steps_of_ranks for seconds in steps]
        return ScalingPoint(
            source="emulated",
            method=self.method,  # type: ignore[arg-type]
            workers=len(steps_of_ranks),
            images_per_worker=self.images_per_worker,
            step_seconds=statistics.median(every),
            images_per_second=sum(
                self.images_per_worker / statistics.median(steps) for steps in steps_of_ranks
            ),
            step_seconds_quartiles=statistics.quantiles(every, n=4)[::2] if len(every) > 1 else [],
            gradient_bytes=4 * sum(self.sizes),
            steps=self.steps,
            warmup_steps=self.warmup_steps,
            compute="sleep",
            threads=1,
            precision="32-true",
            **{**self.known, **measured, **of_this_machine()},
        )


class SleepNetwork(nn.Module):
    """Variables of given sizes whose forward and backward passes take a given time and no processor.

    Each variable takes an equal part; gradients are zeros and become ready one by one, from the last variable
    to the first, so what hides in a network's backward pass hides in this one too.
    """

    def __init__(self, job: EmulatedJob) -> None:
        super().__init__()
        self.variables = nn.ParameterList(nn.Parameter(torch.zeros(size)) for size in job.sizes)
        self.gradients = [torch.zeros(size) for size in job.sizes]
        self.forward_clock = Clock(job.forward_seconds / len(job.sizes))
        self.backward_clock = Clock(job.backward_seconds / len(job.sizes))

    def forward(self, inputs: Tensor) -> Tensor:
        """Sleep; the result is the input, which depends on every variable."""
        for variable, gradient in zip(self.variables, self.gradients, strict=True):
            inputs = _Asleep.apply(inputs, variable, gradient, self.forward_clock, self.backward_clock)
        return inputs


class Clock:
    """Sleeps of equal length; the next ones make up for what one takes too long."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._debt = 0.0

    def sleep(self) -> None:
        """Sleep once."""
        begin = time.perf_counter()
        if (wanted := self.seconds - self._debt) > 0:
            time.sleep(wanted)
        self._debt += time.perf_counter() - begin - self.seconds


class _Asleep(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, variable: Tensor, gradient: Tensor, forward: Clock, backward: Clock
    ) -> Tensor:
        forward.sleep()
        ctx.gradient, ctx.clock = gradient, backward
        return inputs.clone()

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        ctx.clock.sleep()
        return outer, ctx.gradient, None, None, None


def measure(job: EmulatedJob) -> None:
    """Take part in a point of `ring` or `ps_sync`; rank 0 writes it."""
    # The new name of torch 2.14 does not exist in the oldest torch that is supported.
    warnings.filterwarnings("ignore", message=".broadcast_buffers. is deprecated")
    distributed.init_process_group("gloo")
    try:
        network: nn.Module = SleepNetwork(job)
        workers, server = distributed.get_world_size(), None
        if workers > 1:
            network = DistributedDataParallel(
                network,
                broadcast_buffers=False,
                gradient_as_bucket_view=True,
                static_graph=True,
                bucket_cap_mb=job.bucket_mb,
            )
            if job.method == "ps_sync":
                settings = ServerSettings(count=job.servers, placement=job.placement, reply=job.reply)
                server = use_server(network, settings, None)
        for _ in range(job.warmup_steps):
            _step(network, server)
        before = _bytes_of(server)
        distributed.barrier()
        seconds, steps = [], job.steps - job.warmup_steps
        for _ in range(steps):
            begin = time.perf_counter()
            _step(network, server)
            seconds.append(time.perf_counter() - begin)
        counted = [(now - then) / steps for now, then in zip(_bytes_of(server), before, strict=True)]
        gathered: list[Any] = [None] * workers
        distributed.all_gather_object(gathered, (seconds, counted))
        if distributed.get_rank() == 0:
            ring = [2 * (workers - 1) / workers * 4 * sum(job.sizes)] * workers
            job.point(
                [seconds for seconds, _ in gathered],
                overlap=job.method == "ring" and workers > 1 and job.bucket_mb * 2**20 < 4 * sum(job.sizes),
                sent_bytes_by_rank=[counted[0] for _, counted in gathered] if server else ring,
                received_bytes_by_rank=[counted[1] for _, counted in gathered] if server else ring,
                bytes_are="counted" if server else "computed",
                backend="gloo" if workers > 1 else "",
            ).write(Path(job.point_file))
    finally:
        distributed.destroy_process_group()


def _bytes_of(server: SyncServer | None) -> tuple[int, int]:
    return (0, 0) if server is None else (server.sent_bytes, server.received_bytes)


def _step(network: nn.Module, server: SyncServer | None) -> None:
    """Take a step as in training, whose optimizer takes no time."""
    network.zero_grad(set_to_none=True)
    network(torch.ones(1, requires_grad=True)).sum().backward()
    if server is not None and server.settings.reply == "parameters":
        server.keep_own_gradients()
        server.send_parameters()


if __name__ == "__main__":
    measure(EmulatedJob.read(Path(sys.argv[1])))
