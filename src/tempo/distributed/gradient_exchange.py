"""The meaning of `trainer.method`: how processes exchange gradients and share a step's batch.

This file does not import torch, because rules and launchers use it as well as training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Exchange:
    """The processes that train one network: `devices` on each of `nodes` machines."""

    devices: int
    nodes: int

    is_asynchronous: ClassVar[bool] = False
    """Whether workers do not wait for each other.

    If so, one worker computes the whole batch of a step, there is no process group, and tempo starts the
    workers itself.
    """

    @property
    def processes(self) -> int:
        """Number of processes that train."""
        return self.devices * self.nodes

    @property
    def batch_layout(self) -> tuple[int, int]:
        """Numbers of devices per node and of nodes that share the batch of one step."""
        return (1, 1) if self.is_asynchronous else (self.devices, self.nodes)

    @property
    def tasks_per_node(self) -> int:
        """Number of processes per node that a cluster's launcher starts."""
        return 1 if self.is_asynchronous else self.devices


class RingExchange(Exchange):
    """All-reduce: every process gets the mean of all gradients. A single process has nothing to exchange."""


class SyncServerExchange(Exchange):
    """Every process sends its gradients to synchronous parameter servers and waits for their reply."""


class AsyncServerExchange(Exchange):
    """One parameter server takes a step for each gradient as it arrives."""

    is_asynchronous = True


METHODS: dict[str, type[Exchange]] = {
    "ring": RingExchange,
    "ps_sync": SyncServerExchange,
    "ps_async": AsyncServerExchange,
}


def exchange_of(trainer: Mapping[str, Any]) -> Exchange:
    """Return the exchange that the values of `trainer` ask for."""
    devices, nodes = trainer["devices"], trainer["num_nodes"]
    # A single process exchanges nothing, whatever its method: evaluate.py tests any run in one process.
    method = "ring" if devices * nodes == 1 else trainer.get("method", "ring")
    return METHODS[method](devices, nodes)
