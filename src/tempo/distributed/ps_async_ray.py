"""`trainer.method=ps_async`: the asynchronous parameter server as a Ray actor, and its clients."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tempo.distributed.ps_async_server import AsyncServer, Counts, Reply, from_wire, to_wire
from tempo.distributed.ray_cluster import NAMESPACE, SERVER_PATIENCE_SECONDS
from tempo.errors import UserError

_SERVERS: dict[str, Any] = {}
"""Handles of the servers that this process started; Ray ends an actor with its creator's last handle."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.001, 0.05


def serve(optimizer: torch.optim.Optimizer, name: str, **arguments: Any) -> None:
    """Start the server `name` in this process's cluster; the arguments are passed to `AsyncServer`.

    The server lives until this process ends or leaves the cluster. It gets a copy of the optimizer, with its
    parameters and state.
    """
    import ray

    actor_class = ray.remote(num_cpus=0)(AsyncServer).options(name=name)
    _SERVERS[name] = actor_class.remote(_on_cpu(optimizer), **arguments)


def _on_cpu(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return the optimizer, or a copy on the CPU if it is on a GPU, since the server has no GPU."""
    if all(p.device.type == "cpu" for group in optimizer.param_groups for p in group["params"]):
        return optimizer
    # A copy: the worker goes on with its own parameters on the GPU.
    copied = copy.deepcopy(optimizer)
    for group in copied.param_groups:
        for parameter in group["params"]:
            parameter.data = parameter.data.cpu()
    copied.load_state_dict(optimizer.state_dict())  # also moves the state to the parameters' device
    return copied


class AsyncWorker:
    """One worker's connection: `take` a batch from the server `name`, then `exchange` its gradients.

    `parameters` are written in place, in the order of the server's optimizer groups; `version` is their
    version. `sent_bytes` and `received_bytes` count this worker's traffic.

    Every call raises UserError if the server is dead, or has not started after `patience_seconds`.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        worker: int,
        name: str,
        patience_seconds: float = SERVER_PATIENCE_SECONDS,
    ) -> None:
        self.parameters = list(parameters)
        self.worker = worker
        self.server = _wait_for_server(name, worker, patience_seconds)
        self.sent_bytes = self.received_bytes = 0
        self.version = self.batch = -1
        self.instruction = ""
        self.dropped = 0
        self._pause_seconds = 0.0

    def take(self) -> str:
        """Ask once for a batch and return the reply's instruction; for "work", `batch` is its number.

        After a reply without a batch, the next call first waits for a time that grows with each such reply.
        """
        time.sleep(self._pause_seconds)
        self._apply(self.call("take", self.worker, self.version))
        return self.instruction

    def exchange(self, gradients: Sequence[Tensor], measured: Sequence[float] = ()) -> int:
        """Send the gradients of `batch`, write the parameters in the reply, and return the staleness."""
        if self.batch < 0:
            raise ValueError("take a batch before exchanging gradients")
        wire = to_wire(gradients)
        self.sent_bytes += wire.nbytes
        reply: Reply = self.call("push", self.worker, self.batch, self.version, wire, tuple(measured))
        self.dropped += reply.dropped
        self._apply(reply)
        return reply.staleness

    def counts(self) -> Counts:
        """Return the server's traffic so far."""
        found: Counts = self.call("read_counts")
        return found

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the server and return its result."""
        import ray

        try:
            return ray.get(getattr(self.server, method).remote(*arguments))
        except (ray.exceptions.RayActorError, ray.exceptions.RaySystemError) as error:
            raise UserError(
                "the parameter server died; continue from the last checkpoint with resume=<folder of the run>"
            ) from error

    def _apply(self, reply: Reply) -> None:
        self.instruction, self.batch = reply.instruction, reply.batch
        longer = min(max(_FIRST_PAUSE_SECONDS, 2 * self._pause_seconds), _LONGEST_PAUSE_SECONDS)
        self._pause_seconds = 0.0 if reply.instruction == "work" else longer
        if reply.parameters is not None:
            self.version = reply.version
            self.received_bytes += reply.parameters.nbytes
            from_wire(reply.parameters, self.parameters)


def _wait_for_server(name: str, worker: int, patience_seconds: float) -> Any:
    import ray

    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            return ray.get_actor(name, NAMESPACE)
        except ValueError:
            if time.monotonic() > deadline:
                raise UserError(
                    f"worker {worker} found no parameter server within {patience_seconds:g} s; worker 0, "
                    "which starts it, is slow, hangs or failed. Read the output of worker 0 and rerun the "
                    "command, with resume=<folder of the run> if the run has a checkpoint"
                ) from None
            time.sleep(_LONGEST_PAUSE_SECONDS)
