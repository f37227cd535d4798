"""The asynchronous parameter server as a Ray actor, and the worker that talks to it."""

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

from tempo.distributed.async_server import AsyncServer, Counts, Reply, from_wire, to_wire
from tempo.errors import UserError
from tempo.paths import ROOT

ADDRESS = "TEMPO_RAY_ADDRESS"
"""The variable by which workers find the Ray that their starter has begun."""
SERVER = "TEMPO_PARAMETER_SERVER"
"""The variable with the name of their server: several may be in one Ray, also one that has yet to end."""
NAMESPACE = "tempo"
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.001, 0.05
_PATIENCE_SECONDS = 120.0


@contextmanager
def ray_cluster(node_ip: str | None = None, object_store_bytes: int | None = None) -> Iterator[str]:
    """A Ray of its own on this machine, for as long as the block lasts; its address for the workers.

    Nothing of it is left afterwards; should this process be killed, its processes end with it and its folder
    of logs under the system's temporary folder stays. Workers need this process's environment: the token
    that lets them in is there, and nowhere else. No dashboard, no statistics of usage.

    Ray reads the token where it is imported: that must not have happened before.
    """
    os.environ |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")])),
    }
    import ray  # an extra, and after the token is set; so everywhere here

    # Not in the run's folder: the path of a socket has 107 bytes.
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
    """For the environment of a group of workers: the Ray at `address`, and a server of that group alone."""
    return {ADDRESS: address, SERVER: f"parameter_server_{secrets.token_hex(4)}"}


def connect(address: str, node_ip: str | None = None) -> None:
    """Bring this process into the Ray at `address`; its signal handlers stay as they are.

    Raises:
        UserError: no Ray answers there.
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
            f"no Ray answers at {address} ({reason}): it ended or is out of reach; start the command again, "
            "resume=<folder of the run> where the run has a checkpoint"
        ) from error


def serve(optimizer: torch.optim.Optimizer, name: str, **arguments: Any) -> None:
    """Start the server `name` in the Ray that this process is in; arguments as of `AsyncServer`.

    It lives until this process ends or leaves Ray. The optimizer goes there as a copy, parameters and state
    included.
    """
    import ray

    actor_class = ray.remote(num_cpus=0)(AsyncServer).options(name=name)
    # An actor ends with the last handle to it that its maker has.
    _SERVERS[name] = actor_class.remote(_on_cpu(optimizer), **arguments)


_SERVERS: dict[str, Any] = {}


def _on_cpu(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The optimizer itself, or a copy whose parameters and state a process without a GPU can hold."""
    if all(each.device.type == "cpu" for group in optimizer.param_groups for each in group["params"]):
        return optimizer
    copied = copy.deepcopy(optimizer)
    for group in copied.param_groups:
        for each in group["params"]:
            each.data = each.data.cpu()
    copied.load_state_dict(optimizer.state_dict())  # moves the state to where the parameters are
    return copied


class AsyncWorker:
    """One worker's end: `take` work of the server `name`, find the gradients, `exchange` them.

    `parameters` are written in place; they stand in the order of the groups of the server's optimizer.
    `version` is theirs. `sent_bytes` and `received_bytes` count what this worker sends and gets.

    Raises (every call): UserError where the server is dead, or was not there after `patience_seconds`.
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
        self.word = ""
        self.dropped = 0
        self._pause_seconds = 0.0

    def take(self) -> str:
        """Ask for a batch, once; the reply's word, with "work" the batch's number is in `batch`.

        Who asks again where there was none waits a little before, each time longer.
        """
        time.sleep(self._pause_seconds)
        self._heed(self.call("take", self.worker, self.version))
        return self.word

    def exchange(self, gradients: Sequence[Tensor], measured: Sequence[float] = ()) -> int:
        """Send the gradients of `batch` and write the parameters that come back; the gradients' staleness."""
        if self.batch < 0:
            raise ValueError("there is no batch in hand: take one first")
        wire = to_wire(gradients)
        self.sent_bytes += wire.nbytes
        reply: Reply = self.call("push", self.worker, self.batch, self.version, wire, tuple(measured))
        self.dropped += reply.dropped
        self._heed(reply)
        return reply.staleness

    def counts(self) -> Counts:
        """What went through the server so far."""
        found: Counts = self.call("read_counts")
        return found

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the server and wait for what it returns."""
        import ray

        try:
            return ray.get(getattr(self.server, method).remote(*arguments))
        except (ray.exceptions.RayActorError, ray.exceptions.RaySystemError) as error:
            raise _dead() from error

    def _heed(self, reply: Reply) -> None:
        self.word, self.batch = reply.word, reply.batch
        longer = min(max(_FIRST_PAUSE_SECONDS, 2 * self._pause_seconds), _LONGEST_PAUSE_SECONDS)
        self._pause_seconds = 0.0 if reply.word == "work" else longer
        if reply.parameters is not None:
            self.version = reply.version
            self.received_bytes += reply.parameters.nbytes
            from_wire(reply.parameters, self.parameters)


def lose_worker(worker: int, name: str) -> bool:
    """Have the server `name` go on without a worker; whether there was a server to tell."""
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
                    f"worker {worker} found no parameter server for {patience_seconds:g} s: worker 0, which "
                    "starts it, is slow, hangs or did not come so far; see what worker 0 said, and start "
                    "the command again, resume=<folder of the run> where the run has a checkpoint"
                ) from None
            time.sleep(_LONGEST_PAUSE_SECONDS)


def _dead() -> UserError:
    return UserError(
        "the parameter server died: go on from the last checkpoint with resume=<folder of the run>"
    )


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray puts a SIGTERM handler of its own in place; ours comes back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
