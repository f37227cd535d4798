"""The cost model against closed forms, a simulated queue, and measured points of emulated hosts."""

from __future__ import annotations

import random

import pytest

from tempo.scaling.cost_model import (
    Machine,
    Servers,
    ps_async_step_seconds,
    ps_sync_step_seconds,
    ring_step_seconds,
    step_seconds,
)

# Emulated hosts of 1 Gb/s (0.955 of it measured, 0.4 ms a message) with sleeps for compute: bytes and
# seconds of ResNet-50 and VGG16 on the paper's machine, over 12.
LINK = {"bytes_per_second": 0.955e9 / 8, "message_seconds": 0.4e-3}
RESNET = Machine(
    forward_seconds=0.217, backward_seconds=0.434, optimizer_seconds=0.0, gradient_bytes=102.2e6 / 12, **LINK
)
VGG = Machine(
    forward_seconds=0.297, backward_seconds=0.593, optimizer_seconds=0.0, gradient_bytes=553.4e6 / 12, **LINK
)
MEASURED = [
    ("ring", RESNET, {2: 0.722, 4: 0.761, 8: 0.804}),
    ("ring", VGG, {2: 1.358, 4: 1.480, 8: 1.618}),
    ("ps_sync", RESNET, {2: 0.794, 4: 1.076, 8: 1.647}),
    ("ps_sync", VGG, {2: 1.676, 4: 3.252, 8: 6.284}),
]


@pytest.mark.parametrize(("method", "machine", "points"), MEASURED)
def test_within_ten_percent_of_emulated_hosts(method, machine, points) -> None:
    for workers, seconds in points.items():
        predicted = step_seconds(method, machine, workers)
        assert predicted == pytest.approx(seconds, rel=0.10), (workers, predicted)


def test_ring_tends_to_twice_the_bytes_whatever_the_number_of_workers() -> None:
    free = Machine(
        forward_seconds=0.1,
        backward_seconds=0.2,
        optimizer_seconds=0.0,
        gradient_bytes=1e8,
        bytes_per_second=1e9,
    )
    assert ring_step_seconds(free, 1, overlap=False) == pytest.approx(0.3)
    assert ring_step_seconds(free, 2, overlap=False) == pytest.approx(0.3 + 0.1)
    assert ring_step_seconds(free, 1024, overlap=False) == pytest.approx(0.3 + 0.2, rel=1e-3)


def test_overlap_hides_what_fits_behind_the_backward_pass() -> None:
    machine = Machine(
        forward_seconds=0.1,
        backward_seconds=0.2,
        optimizer_seconds=0.05,
        gradient_bytes=1e7,
        bytes_per_second=1e9,
        buckets=10,
    )
    exchange = 2 * 7 / 8 * 0.01
    assert ring_step_seconds(machine, 8, overlap=True) == pytest.approx(0.35 + exchange / 10)
    slow = Machine(
        forward_seconds=0.1,
        backward_seconds=0.2,
        optimizer_seconds=0.05,
        gradient_bytes=1e9,
        bytes_per_second=1e9,
        buckets=10,
    )
    assert ring_step_seconds(slow, 8, overlap=True) == pytest.approx(0.15 + 0.02 + 2 * 7 / 8)


def test_a_server_takes_in_and_gives_out_what_all_others_send() -> None:
    assert ps_sync_step_seconds(RESNET, 5, Servers(), overlap=False) == pytest.approx(
        RESNET.step_seconds + 2 * 0.4e-3 + 2 * 4 * RESNET.transfer_seconds
    )
    spread = ps_sync_step_seconds(RESNET, 4, Servers(count=4), overlap=False)
    assert spread == pytest.approx(RESNET.step_seconds + 2 * 0.4e-3 + 2 * 3 / 4 * RESNET.transfer_seconds)
    unbalanced = ps_sync_step_seconds(RESNET, 4, Servers(count=4, fullest_share=0.75), overlap=False)
    assert unbalanced > spread


def test_async_queue_agrees_with_a_simulation() -> None:
    """Exponential thinking and service times, the case for which mean value analysis is exact."""
    machine = Machine(
        forward_seconds=0.3,
        backward_seconds=0.7,
        optimizer_seconds=0.0,
        gradient_bytes=1e8,
        bytes_per_second=1e9,
        message_seconds=0.0,
    )
    for workers in (1, 4, 12):
        predicted = ps_async_step_seconds(machine, workers, Servers(duplex=1))
        assert predicted == pytest.approx(simulated_cycle(1.0, 0.2, workers), rel=0.03)


def simulated_cycle(
    think_seconds: float, service_seconds: float, workers: int, visits: int = 60_000
) -> float:
    """Mean seconds between two visits of one worker; first come, first served."""
    draw = random.Random(0)
    arrivals = sorted(draw.expovariate(1 / think_seconds) for _ in range(workers))
    free_at = 0.0
    for _ in range(visits):
        arrived = arrivals.pop(0)
        free_at = max(free_at, arrived) + draw.expovariate(1 / service_seconds)
        arrivals.append(free_at + draw.expovariate(1 / think_seconds))
        arrivals.sort()
    return workers * free_at / visits


def test_async_is_bound_by_the_server_in_the_end() -> None:
    bound = 1024 * 2 * RESNET.transfer_seconds
    assert ps_async_step_seconds(RESNET, 1024, Servers(duplex=1)) == pytest.approx(bound, rel=0.01)


def test_one_worker_is_ideal() -> None:
    for method in ("ring", "ps_sync"):
        assert step_seconds(method, RESNET, 1) == pytest.approx(0.651)


def test_no_workers_is_refused() -> None:
    with pytest.raises(ValueError, match="workers=0"):
        step_seconds("ring", RESNET, 0)
