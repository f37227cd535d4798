"""What trainer.method says of a step's batch and of the processes to start."""

from __future__ import annotations

import pytest

from tempo.config.schema import TrainerConfig
from tempo.distributed.gradient_exchange import (
    AsyncServerExchange,
    Exchange,
    RingExchange,
    SyncServerExchange,
    exchange_of,
)


@pytest.mark.parametrize(
    ("method", "kind", "batch_layout", "tasks_per_node"),
    [
        ("ring", RingExchange, (4, 2), 4),
        ("ps_sync", SyncServerExchange, (4, 2), 4),
        ("ps_async", AsyncServerExchange, (1, 1), 1),
    ],
)
def test_each_method(
    method: str, kind: type[Exchange], batch_layout: tuple[int, int], tasks_per_node: int
) -> None:
    exchange = exchange_of({"method": method, "devices": 4, "num_nodes": 2})
    assert exchange == kind(devices=4, nodes=2)
    assert exchange.processes == 8
    assert exchange.batch_layout == batch_layout
    assert exchange.tasks_per_node == tasks_per_node


@pytest.mark.parametrize("method", ["ring", "ps_sync", "ps_async"])
def test_a_single_process_exchanges_nothing(method: str) -> None:
    """evaluate.py tests a run of several processes in one."""
    trainer = TrainerConfig(method=method)  # type: ignore[arg-type]
    assert trainer.exchange == RingExchange(devices=1, nodes=1)


def test_records_without_a_method_were_rings() -> None:
    assert exchange_of({"devices": 2, "num_nodes": 1}) == RingExchange(devices=2, nodes=1)
