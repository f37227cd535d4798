"""Ray cluster of one run with `trainer.method=ps_async`: started, connected to and ended.

This file does not import torch: the process that starts the workers needs none, and would wait for it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tempo.errors import UserError
from tempo.paths import python_path

ADDRESS = "TEMPO_RAY_ADDRESS"
"""Environment variable with the address of the Ray cluster of a group of workers."""
SERVER = "TEMPO_PARAMETER_SERVER"
"""Environment variable with the server's name, since a cluster may hold several, even one about to end."""
NAMESPACE = "tempo"
SERVER_PATIENCE_SECONDS = 120.0


@contextmanager
def ray_cluster(object_store_bytes: int | None = None) -> Iterator[str]:
    """Run a Ray cluster on this machine during the block; yield its address for the workers.

    It listens on the loopback interface only.

    It leaves nothing behind. If this process is killed, the cluster's processes end too, but its folder of
    logs in the system's temporary folder stays. Workers must inherit this process's environment, the only
    place with the access token. The dashboard and usage statistics are off.

    Ray must not have been imported before, because it reads the token on import.
    """
    keep_to_this_machine()
    path = python_path(os.environ.get("PYTHONPATH"))
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": path}
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
                _temp_dir=folder,
            )
        yield str(context.address_info["gcs_address"])
    finally:
        with _own_signals():
            ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def keep_to_this_machine() -> None:
    """Let the next cluster listen on the loopback interface only, and answer only to this process's token.

    Ray reads these variables on import.
    """
    os.environ |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        # As on macOS, where the address of Ray's node is 127.0.0.1; ray.init has no argument for it.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }


def variables_of_server(address: str) -> dict[str, str]:
    """Return the environment of a group of workers: the cluster at `address` and a new server's name."""
    return {ADDRESS: address, SERVER: f"parameter_server_{secrets.token_hex(4)}"}


def connect(address: str) -> None:
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
            )
    except (ConnectionError, RuntimeError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise UserError(
            f"no Ray cluster answers at {address} ({reason}); it ended or cannot be reached. Rerun the "
            "command, with resume=<folder of the run> if the run has a checkpoint"
        ) from error


def lose_worker(worker: int, name: str) -> bool:
    """Tell the server `name` that a worker is lost; return whether the server answered."""
    import ray

    try:
        server: Any = ray.get_actor(name, NAMESPACE)
        ray.get(server.lose.remote(worker), timeout=SERVER_PATIENCE_SECONDS)
    except (ValueError, ray.exceptions.RayError):
        return False
    return True


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
