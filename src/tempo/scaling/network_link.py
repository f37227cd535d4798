"""Measure the cost of a message and of a byte between two processes, over the backend for gradients.

`python -m tempo.scaling.network_link FILE [BACKEND]`, with torchrun's variables set, measures between ranks 0
and 1; rank 0 writes FILE.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, distributed

from tempo.distributed.child_process import die_with_parent
from tempo.distributed.local_group import join_local_group
from tempo.errors import UserError
from tempo.record.atomic_write import write_atomically
from tempo.record.read_file import read_text
from tempo.scaling.cost_model import Duplex

_SMALL_ROUNDS, _LARGE_ROUNDS = 200, 5
_LARGE_BYTES = 1 << 24
_HALF_DUPLEX = 1.5
"""Ratio of the time of both directions at once to that of one, above which they share a resource."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """Bandwidth B of one direction, B per direction with both in use, and latency a of one direction."""

    bytes_per_second: float
    message_seconds: float
    both_ways_bytes_per_second: float
    backend: str

    @property
    def duplex(self) -> Duplex:
        """D of the cost model: 2 if both directions have their own resource, else 1."""
        return 2 if self.bytes_per_second < _HALF_DUPLEX * self.both_ways_bytes_per_second else 1

    @classmethod
    def read(cls, path: Path) -> Link:
        """Read a file that this program wrote; raise UserError for any other file."""
        try:
            return cls(**json.loads(read_text(path)))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{path} is not a measured link; write one with "
                f"torchrun -m tempo.scaling.network_link {path.name}"
            ) from error

    def write(self, path: Path) -> None:
        """Write the file atomically."""
        write_atomically(path, json.dumps(dataclasses.asdict(self), indent=2) + "\n")


def measure_link(device: torch.device, large_bytes: int = _LARGE_BYTES) -> Link:
    """Measure by ping-pong between ranks 0 and 1 of the default group; all ranks must call it.

    a is half the round trip of 4 bytes, and B = bytes / (half the round trip of many bytes - a); both are
    medians over rounds.
    """
    rank = distributed.get_rank()
    small, large = torch.zeros(1, device=device), torch.zeros(large_bytes // 4, device=device)
    message_seconds = median_seconds(lambda: _ping_pong(small, rank), _SMALL_ROUNDS) / 2
    one_way = median_seconds(lambda: _ping_pong(large, rank), _LARGE_ROUNDS) / 2
    inbox = torch.zeros_like(large)
    both_ways = median_seconds(lambda: _at_once(large, inbox, rank), _LARGE_ROUNDS)
    return Link(
        # On one machine, the difference of two medians may come out as 0 or below.
        bytes_per_second=large.nbytes / max(one_way - message_seconds, 1e-9),
        message_seconds=message_seconds,
        both_ways_bytes_per_second=large.nbytes / max(both_ways - message_seconds, 1e-9),
        backend=distributed.get_backend(),
    )


def _ping_pong(message: Tensor, rank: int) -> None:
    if rank == 0:
        distributed.send(message, 1)
        distributed.recv(message, 1)
    elif rank == 1:
        distributed.recv(message, 0)
        distributed.send(message, 0)


def _at_once(outgoing: Tensor, incoming: Tensor, rank: int) -> None:
    if rank < 2:
        other = 1 - rank
        # As one batch: with NCCL, a send of each rank before its receive could wait for ever.
        ends = [
            distributed.P2POp(distributed.isend, outgoing, other),
            distributed.P2POp(distributed.irecv, incoming, other),
        ]
        for work in distributed.batch_isend_irecv(ends):
            work.wait()


def median_seconds(action: Callable[[], object], rounds: int, warmup_rounds: int = 1) -> float:
    """Return the median time of an action over `rounds`; the first exchange, e.g., opens a connection."""
    found = []
    for number in range(warmup_rounds + rounds):
        _synchronize()
        begin = time.perf_counter()
        action()
        _synchronize()
        if number >= warmup_rounds:
            found.append(time.perf_counter() - begin)
    return statistics.median(found)


def _synchronize() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def main() -> None:
    """Measure the link and write the file."""
    die_with_parent()
    path, backend = Path(sys.argv[1]), (sys.argv[2:] or ["gloo"])[0]
    rank = int(os.environ["RANK"])
    device = torch.device("cpu") if backend == "gloo" else torch.device("cuda", rank)
    join_local_group(device, backend)
    if not distributed.is_initialized():  # torchrun started this process
        distributed.init_process_group(backend)
    try:
        link = measure_link(device)
        if rank == 0:
            link.write(path)
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
