"""Run a module in several processes on this machine, as ranks of one group that no other user can reach.

As a program: `python -m tempo.distributed.local_group <processes> <module> <arguments>`. The ranks meet in a
file in a folder of their user, and exchange gradients over the loopback interface. torchrun would listen on
all interfaces without a password, and unpickle what it finds there. It would also import torch here.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from tempo.distributed.child_process import ChildProcess, die_with_parent, exit_reason
from tempo.distributed.interrupt_counter import StopSignals
from tempo.errors import INTERRUPTED_CODE

STORE = "TEMPO_GROUP_STORE"
"""Environment variable with the file in which the ranks of a group on one machine meet."""
_LOOK_SECONDS = 0.05
_AFTER_DEATH_SECONDS, _AFTER_STOP_SECONDS = 5.0, 30.0
"""Time that ranks have to end by themselves after one has died, or has stopped as it was asked to."""


def main() -> None:
    """Start the processes, wait for them, and exit with the code of the first that failed."""
    count, module, arguments = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    parent = os.getppid()
    ranks: list[ChildProcess] = []

    def stop(number: int) -> None:
        if len(ranks) < count or os.getppid() != parent:
            sys.exit(128 + number)
        for rank in ranks:
            rank.send(number)

    with StopSignals(stop), tempfile.TemporaryDirectory(prefix="tempo_group_") as folder:
        # SIGTERM, not SIGKILL, so that the folder is removed also if the parent is killed.
        die_with_parent(parent, signal.SIGTERM)
        try:
            for rank in range(count):
                place = _variables(rank, count, f"{folder}/store")
                ranks.append(ChildProcess.run_module(module, *arguments, environment={**os.environ, **place}))
            code = _wait(ranks)
        finally:
            for process in ranks:
                process.kill()
    sys.exit(code if code >= 0 else 128 - code)


def _variables(rank: int, count: int, store: str) -> dict[str, str]:
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    loopback = loopback_interface()
    interfaces = {"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback, STORE: store}
    return {**{name: str(value) for name, value in ranks.items()}, **interfaces}


def loopback_interface() -> str:
    """Return the name of the loopback interface: `lo` on Linux, `lo0` on macOS."""
    names = [name for _, name in socket.if_nameindex()]
    return next((name for name in ("lo", "lo0") if name in names), "lo")


def _wait(ranks: Sequence[ChildProcess]) -> int:
    """Return 0 if all ranks ended well, else the code of the first that did not; the others may then end."""
    first_failed, deadline = 0, float("inf")
    while running := [rank for rank in ranks if rank.exit_code() is None]:
        if not first_failed:
            for number, rank in enumerate(ranks):
                if code := rank.exit_code():
                    first_failed = code
                    is_stop = code == INTERRUPTED_CODE
                    print(f"rank {number} ended: {exit_reason(code)}", file=sys.stderr, flush=True)
                    patience = _AFTER_STOP_SECONDS if is_stop else _AFTER_DEATH_SECONDS
                    deadline = time.monotonic() + patience
                    break
        if time.monotonic() > deadline:
            return first_failed
        time.sleep(_LOOK_SECONDS if running else 0)
    return first_failed or next((code for rank in ranks if (code := rank.exit_code())), 0)


def join_local_group(device: Any, backend: str | None = None) -> None:
    """Join the group in the file that `local_group` named; do nothing in any other process.

    `device` is this rank's `torch.device`; it decides the backend if none is given.
    """
    if STORE not in os.environ:
        return
    from torch import distributed  # only here: the process that starts the ranks does not need it

    if distributed.is_initialized():
        return
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    distributed.init_process_group(
        backend or distributed.get_default_backend_for_device(device),
        store=distributed.FileStore(os.environ[STORE], count),  # type: ignore[attr-defined]
        rank=rank,
        world_size=count,
        device_id=None if device.type == "cpu" else device,
    )


if __name__ == "__main__":
    main()
