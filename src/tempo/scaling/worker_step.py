"""A training step of the benchmark, with its exchange and without."""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from tempo.distributed.ps_async_ray import ADDRESS, SERVER, AsyncWorker, connect, serve
from tempo.distributed.ps_sync import ServerSettings, SyncServer, use_server
from tempo.distributed.ring import COMPRESSED_DTYPE, use_all_reduce
from tempo.errors import UserError
from tempo.optimizer.build import build_optimizer
from tempo.scaling.benchmark_job import BenchmarkJob
from tempo.scaling.network import build

_WAIT_SECONDS = 0.001
_AUTOCAST = {"bf16-mixed": torch.bfloat16}
_DTYPE = {"bf16-true": torch.bfloat16, "64-true": torch.float64}


class WorkerStep:
    """One worker: network, images made once on its device, optimizer; `take` and `compute` are its steps.

    The exchange is that of `trainer.method`: torch's DistributedDataParallel as the strategies wrap it, with
    `static_graph`, as every step is the same here; or the asynchronous server, for which rank 0 starts it.
    """

    def __init__(self, job: BenchmarkJob, device: torch.device, world_size: int, rank: int = 0) -> None:
        self.job, self.device = job, device
        torch.manual_seed(job.seed)
        network = build(job).to(device, dtype=_DTYPE.get(job.precision, torch.float32))
        if job.channels_last and job.sleep is None:
            network = network.to(memory_format=torch.channels_last)
        self.optimizer = build_optimizer(network, job.optimizer)
        trained = [each for each in network.parameters() if each.requires_grad]
        self.gradient_bytes = sum(each.nbytes for each in trained)
        compressed = (
            sum(each.numel() * COMPRESSED_DTYPE[job.compress].itemsize for each in trained)
            if job.compress
            else 0
        )
        self.wire_bytes = compressed or self.gradient_bytes
        """Of the gradients as they travel."""
        self.star: SyncServer | None = None
        self.module = network
        self.network: nn.Module = network
        """What is called: the module itself, or what wraps it for the exchange of gradients."""
        self.asynchronous: AsyncWorker | None = None
        self.staleness: list[int | None] = []
        """Of the gradient of each step taken, None of a dropped one; empty where steps are synchronous."""
        self._make_batch()
        if job.method == "ps_async":
            self.asynchronous = self._reach_server(rank)
        elif world_size > 1:
            self.network = self._wrap(network)

    @property
    def exchanges(self) -> bool:
        """Whether a step has an exchange."""
        return self.asynchronous is not None or self.network is not self.module

    @property
    def counted_bytes(self) -> tuple[int, int]:
        """Sent and received so far, as far as the exchange counts them."""
        counted = self.asynchronous or self.star
        return (0, 0) if counted is None else (counted.sent_bytes, counted.received_bytes)

    def _make_batch(self) -> None:
        job = self.job
        if job.sleep is not None:
            self.images = torch.ones(1, requires_grad=True)
            return
        shape = (job.images_per_worker, job.channels, job.image_size, job.image_size)
        images = torch.rand(shape, device=self.device, dtype=_DTYPE.get(job.precision, torch.float32))
        layout = torch.channels_last if job.channels_last else torch.contiguous_format
        self.images = images.contiguous(memory_format=layout)
        self.labels = torch.randint(job.classes, (job.images_per_worker,), device=self.device)

    def _wrap(self, network: nn.Module) -> DistributedDataParallel:
        job = self.job
        wrapped = DistributedDataParallel(
            network,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
            static_graph=True,
            bucket_cap_mb=job.bucket_mb,
        )
        if job.method == "ring":
            use_all_reduce(wrapped, job.compress)
        else:
            servers = ServerSettings(count=job.servers, placement=job.placement, reply=job.reply)
            self.star = use_server(wrapped, servers, job.compress)
        return wrapped

    def _reach_server(self, rank: int) -> AsyncWorker:
        address, name = os.environ.get(ADDRESS), os.environ.get(SERVER)
        if address is None or name is None:
            raise UserError(
                f"ps_async needs {ADDRESS} and {SERVER} in the environment, one is missing: start workers "
                "with variables_of_server() of a ray_cluster(), as src/scale.py does"
            )
        connect(address)
        if rank == 0:
            serve(self.optimizer, name, max_staleness=self.job.max_staleness)
        self._trained = [each for group in self.optimizer.param_groups for each in group["params"]]
        worker = AsyncWorker(self._trained, rank, name)
        _await_work(worker)
        return worker

    def take(self) -> None:
        """A step as in training."""
        self._differentiate()
        if self.asynchronous is not None:
            before = self.asynchronous.dropped
            late = self.asynchronous.exchange([each.grad for each in self._trained])
            self.staleness.append(None if self.asynchronous.dropped > before else late)
            _await_work(self.asynchronous)
        elif self.star is None or self.job.reply == "gradients":
            self._update()
        else:
            self.star.keep_own_gradients()
            self._update()
            self.star.send_parameters()

    def compute(self) -> None:
        """The same without exchange; weights of the workers part ways."""
        with self._without_exchange():
            self._differentiate()
        self._update()

    def forward(self) -> Tensor:
        """The forward pass alone; its loss."""
        kind = _AUTOCAST.get(self.job.precision)
        with torch.autocast(self.device.type, kind) if kind is not None else nullcontext():
            outputs: Tensor = self.network(self.images)
            return outputs.sum() if self.job.sleep is not None else F.cross_entropy(outputs, self.labels)

    def _differentiate(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.forward().backward()

    def _update(self) -> None:
        if self.job.sleep is None:
            self.optimizer.step()
        else:
            time.sleep(self.job.sleep["optimizer_seconds"])

    def _without_exchange(self) -> AbstractContextManager[None]:
        return self.network.no_sync() if isinstance(self.network, DistributedDataParallel) else nullcontext()

    def synchronize(self) -> None:
        """Wait until the device has done what it was told."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _await_work(worker: AsyncWorker) -> None:
    while worker.instruction != "work":
        time.sleep(_WAIT_SECONDS)
        worker.take()
