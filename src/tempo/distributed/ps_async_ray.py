"""`trainer.method=ps_async`: the asynchronous parameter server as a Ray actor, and its clients."""

from __future__ import annotations

import copy
import os
import secrets
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tempo.distributed.ps_async_server import AsyncServer, Counts, Reply, from_wire, to_wire
from tempo.errors import UserError
from tempo.paths import ROOT

ADDRESS = "TEMPO_RAY_ADDRESS"
"""Environment variable with the address of the Ray cluster of a group of workers."""
SERVER = "TEMPO_PARAMETER_SERVER"
"""Environment variable with the server's name, since a cluster may hold several, even one about to end."""
NAMESPACE = "tempo"
_SERVERS: dict[str, Any] = {}
"""Handles of the servers that this process started; Ray ends an actor with its creator's last handle."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.001, 0.05
_PATIENCE_SECONDS = 120.0


@contextmanager
def ray_cluster(node_ip: str | None = None, object_store_bytes: int | None = None) -> Iterator[str]:
    """Run a Ray cluster on this machine during the block; yield its address for the workers.

    It leaves nothing behind. If this process is killed, the cluster's processes end too, but its folder of
    logs in the system's temporary folder stays. Workers must inherit this process's environment, the only
    place with the access token. The dashboard and usage statistics are off.

    Ray must not have been imported before, because it reads the token on import.
    """
    os.environ |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")])),
    }
    import ray  # only here: it is an optional extra and must see the token

    # Not in the run's folder, because the path of a socket may have at most 107 bytes.
    folder = tempfile.mkdtemp(prefix="tempo_ray_")
    try:
        with _own_signals():
            context: Any = ray.init(
                address="local",
                namespace=NAMESPACE,
                include_dashboard=False,
                configure_logging=False,
                log_to_driver=False,
                num_cpus=1,
                num_gpus=0,
                object_store_memory=object_store_bytes,
                _node_ip_address=node_ip,
                _temp_dir=folder,
            )
        yield str(context.address_info["gcs_address"])
    finally:
        with _own_signals():
            ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def variables_of_server(address: str) -> dict[str, str]:
    """Return the environment of a group of workers: the cluster at `address` and a new server's name."""
    return {ADDRESS: address, SERVER: f"parameter_server_{secrets.token_hex(4)}"}


def connect(address: str, node_ip: str | None = None) -> None:
    """Connect this process to the Ray cluster at `address`, without changing its signal handlers.

    Raises:
        UserError: no cluster answers at this address.
    """
    import ray

    if ray.is_initialized():
        return
    try:
        with _own_signals():
            ray.init(
                address=address,
                namespace=NAMESPACE,
                configure_logging=False,
                log_to_driver=False,
                _node_ip_address=node_ip,
            )
    except (ConnectionError, RuntimeError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise UserError(
            f"no Ray cluster answers at {address} ({reason}); it ended or cannot be reached. Rerun the "
            "command, with resume=<folder of the run> if the run has a checkpoint"
        ) from error


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
        patience_seconds: float = _PATIENCE_SECONDS,
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


def lose_worker(worker: int, name: str) -> bool:
    """Tell the server `name` that a worker is lost; return whether the server answered."""
    import ray

    try:
        server: Any = ray.get_actor(name, NAMESPACE)
        ray.get(server.lose.remote(worker), timeout=_PATIENCE_SECONDS)
    except (ValueError, ray.exceptions.RayError):
        return False
    return True


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


@contextmanager
def _own_signals() -> Iterator[None]:
    """Restore this process's SIGTERM handler, which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
