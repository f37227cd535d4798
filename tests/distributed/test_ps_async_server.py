"""The asynchronous server without Ray: numbers, staleness, and every batch stepped exactly once."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from tempo.distributed.ps_async_server import AsyncServer, Reply, from_wire, to_wire
from tempo.scheduler.apply_to_optimizer import ScheduleAdapter
from tempo.scheduler.onecycle import OneCycle

STEPS = 30
BuildOptimizer = Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer]
OPTIMIZERS: list[BuildOptimizer] = [
    lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-2),
    lambda parameters: torch.optim.Adam(parameters, lr=0.1),
]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 1)).double()


def loss_of(model: nn.Module, batch: int) -> torch.Tensor:
    images = torch.randn(16, 5, generator=torch.Generator().manual_seed(batch), dtype=torch.float64)
    return (model(images) - images[:, :1].sin()).square().mean()


class Worker:
    """A worker in this process."""

    def __init__(self, server: AsyncServer, index: int) -> None:
        self.server, self.index, self.model = server, index, network()
        self.version = -1
        self.done: list[int] = []
        self.apply(server.take(index))

    def apply(self, reply: Reply) -> None:
        self.reply = reply
        if reply.parameters is not None:
            from_wire(reply.parameters, list(self.model.parameters()))
            self.version = reply.version

    def step(self) -> None:
        """Push one gradient if there is a batch, else ask for one."""
        if self.reply.instruction != "work":
            return self.apply(self.server.take(self.index, self.version))
        batch = self.reply.batch
        gradients = torch.autograd.grad(loss_of(self.model, batch), list(self.model.parameters()))
        self.apply(self.server.push(self.index, batch, self.version, to_wire(gradients), (batch,)))
        if not self.reply.dropped:
            self.done.append(batch)
        return None


@pytest.mark.parametrize("build", OPTIMIZERS)
def test_one_worker_equals_plain_training(build: BuildOptimizer) -> None:
    schedule = OneCycle(min_lr=0.005, max_lr=0.05, min_momentum=0.8)
    plain, served = network(), network()
    optimizer = build(plain.parameters())
    adapter = ScheduleAdapter(optimizer, schedule, STEPS)
    for step in range(STEPS):
        adapter.apply(step)
        optimizer.zero_grad()
        loss_of(plain, step).backward()
        optimizer.step()
    server = AsyncServer(
        build(served.parameters()),
        build_schedule=lambda served: ScheduleAdapter(served, schedule, STEPS).apply,
    )
    server.open(STEPS)
    worker = Worker(server, 0)
    while worker.reply.instruction != "drained":
        worker.step()
    for one, two in zip(worker.model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-12)
    assert server.counts.staleness == {0: STEPS}
    moments = copy.deepcopy(optimizer.state_dict()["state"])
    for number, values in server.optimizer_state()["state"].items():
        for name, value in values.items():
            torch.testing.assert_close(value, moments[number][name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_equally_fast_workers_are_late_by_the_number_of_others(workers: int) -> None:
    server = AsyncServer(OPTIMIZERS[0](network().parameters()))
    group = [Worker(server, index) for index in range(workers)]
    for _ in range(10):
        for worker in group:
            worker.step()
    late = server.counts.staleness
    # In the first round all have read version 0; from then on all are workers - 1 behind.
    assert late[workers - 1] == 9 * workers + 1
    assert max(late) == workers - 1
    size = 8 * sum(parameter.numel() for parameter in network().parameters())
    assert server.counts.received_bytes == 10 * workers * size
    assert server.counts.sent_bytes == (10 * workers + workers) * size


@pytest.mark.parametrize("bound", [0, 1, 3])
def test_no_gradient_is_later_than_the_bound(bound: int) -> None:
    server = AsyncServer(OPTIMIZERS[0](network().parameters()), max_staleness=bound, until=200)
    group, chance = [Worker(server, index) for index in range(6)], random.Random(bound)
    while server.version < 200:
        chance.choice(group).step()
    assert max(server.counts.staleness) == bound
    assert server.counts.dropped > 20
    assert [batch for _, (batch,) in server.fetch_measured()] != list(range(200))
    assert sorted(batch for worker in group for batch in worker.done) == list(range(200))


@pytest.mark.parametrize("bound", [None, 0, 2])
@pytest.mark.parametrize("seed", range(8))
def test_each_batch_is_stepped_once_whichever_workers_die(seed: int, bound: int | None) -> None:
    chance = random.Random(seed)
    server = AsyncServer(OPTIMIZERS[0](network().parameters()), max_staleness=bound, until=40)
    alive = [Worker(server, index) for index in range(4)]
    while server.version < 40:
        chance.choice(alive).step()
        if chance.random() < 0.03 and len(alive) > 1:
            dead = alive.pop(chance.randrange(len(alive)))
            server.lose(dead.index)
            late = server.push(dead.index, 0, 0, to_wire(list(dead.model.parameters())))
            assert late.instruction == "finished"
            assert late.dropped
        if chance.random() < 0.05:
            goal = server.close()
            for _ in range(1000):
                if server.version == goal:
                    break
                chance.choice(alive).step()
            found = server.fetch_measured()
            assert [version for version, _ in found] == list(range(server.version))
            assert sorted(batch for _, (batch,) in found) == list(range(goal))  # a state that can be saved
            server.measured = found
            server.open(40)
    assert sorted(batch for _, (batch,) in server.fetch_measured()) == list(range(40))
    assert sum(server.counts.steps_of_workers.values()) == 40


def test_a_gradient_pushed_twice_is_stepped_once() -> None:
    server = AsyncServer(OPTIMIZERS[0](network().parameters()), until=2)
    worker = Worker(server, 0)
    sent = (0, worker.reply.batch, worker.version, to_wire(list(worker.model.parameters())))
    assert not server.push(*sent).dropped
    again = server.push(*sent)
    assert (again.dropped, again.batch, server.version) == (True, 1, 1)


def test_stale_gradients_still_find_the_minimum() -> None:
    server = AsyncServer(torch.optim.SGD(network().parameters(), lr=0.1, momentum=0.5), until=1500)
    group, chance = [Worker(server, index) for index in range(4)], random.Random(0)
    before = loss_of(group[0].model, -1).item()
    while server.version < 1500:
        chance.choice(group).step()
    for worker in group:
        worker.step()
    assert 2.5 < server.counts.staleness_mean < 3.5
    assert loss_of(group[0].model, -1).item() < 0.05 * before


def test_a_finished_server_tells_every_worker() -> None:
    server = AsyncServer(OPTIMIZERS[0](network().parameters()))
    one, two = Worker(server, 0), Worker(server, 1)
    assert server.awaited(3) == 1
    server.finish()
    one.step()
    two.step()
    assert (one.reply.instruction, two.reply.instruction, server.version) == ("finished", "finished", 0)


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_any_dtype_can_be_sent(kind: torch.dtype) -> None:
    sent = [torch.randn(3, 2).to(kind).t(), torch.randn(1).to(kind), torch.randn(4).to(kind)]
    received = [torch.zeros_like(tensor) for tensor in sent]
    wire = to_wire(sent)
    wire.flags.writeable = False
    from_wire(wire, received)
    assert all(torch.equal(one, two) for one, two in zip(sent, received, strict=True))
    with pytest.raises(ValueError, match="for 6 parameters"):
        from_wire(wire, sent[:1])
