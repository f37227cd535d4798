"""Compute the step time of N workers with ring all-reduce or parameter servers, from one machine's numbers.

The model leaves out stragglers, jitter and packet loss, contention between switches, the input pipeline, a
processor that both computes and serves (emulated hosts include it), and memory. Latency counts once per
message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Method = Literal["ring", "ps_sync", "ps_async"]
Duplex = Literal[1, 2]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One worker and its link: seconds of the parts of a step, and the cost of a byte and of a message.

    `forward_seconds`, `backward_seconds`, `optimizer_seconds`: T_f, T_b, T_opt of one step.
    `gradient_bytes`: S. `bytes_per_second`: B, for each direction of a worker's link. `message_seconds`: a.
    `buckets`: k, the number of pieces in which gradients are sent. `apply_seconds`: a server's own work for
    one gradient. `largest_variable_bytes`: the largest variable, whose transfer no overlap can hide.
    """

    forward_seconds: float
    backward_seconds: float
    optimizer_seconds: float
    gradient_bytes: float
    bytes_per_second: float
    message_seconds: float = 0.0
    buckets: int = 1
    apply_seconds: float = 0.0
    largest_variable_bytes: float = 0.0

    def __post_init__(self) -> None:
        positive = (self.step_seconds, self.gradient_bytes, self.bytes_per_second, self.buckets)
        if min(positive) <= 0 or min(self.message_seconds, self.apply_seconds) < 0:
            raise ValueError(f"times, bytes and bandwidth of a machine must be above 0: {self}")

    @property
    def step_seconds(self) -> float:
        """Seconds of a step without exchange: T = T_f + T_b + T_opt."""
        return self.forward_seconds + self.backward_seconds + self.optimizer_seconds

    @property
    def transfer_seconds(self) -> float:
        """Seconds to send all gradients: S / B."""
        return self.gradient_bytes / self.bytes_per_second


@dataclass(frozen=True, kw_only=True)
class Servers:
    """Distribution of the parameters over servers.

    `fullest_share` is the part of S on the fullest server: 1/count if balanced, more if one variable is
    larger than that. `dedicated` servers have their own machines; others share a worker's. `duplex` is 1 if
    both directions of the server's traffic share one resource (a half-duplex link, one busy core), else 2.
    """

    count: int = 1
    fullest_share: float | None = None
    dedicated: bool = False
    duplex: Duplex = 2

    @property
    def share(self) -> float:
        """Part of S on the fullest server."""
        return 1 / self.count if self.fullest_share is None else self.fullest_share


def ring_step_seconds(machine: Machine, workers: int, *, overlap: bool) -> float:
    """Return the seconds of a step with ring all-reduce.

    c = 2(N-1) a k + 2(N-1)/N S/B. Without overlap t = T + c. With overlap, buckets are sent during the
    backward pass: t = max(T + c/k, T_f + T_opt + T_b/k + c).

    Source: Patarasuk & Yuan 2009, *Bandwidth optimal all-reduce algorithms*; Li et al., arXiv:2006.15704.
    """
    n, k = workers, machine.buckets
    exchange = 2 * (n - 1) * machine.message_seconds * k + 2 * (n - 1) / n * machine.transfer_seconds
    if n == 1 or not overlap:
        return machine.step_seconds + exchange
    outside_backward = machine.forward_seconds + machine.optimizer_seconds
    return max(
        machine.step_seconds + exchange / k, outside_backward + machine.backward_seconds / k + exchange
    )


def ps_sync_step_seconds(machine: Machine, workers: int, servers: Servers, *, overlap: bool) -> float:
    """Return the seconds of a step with a synchronous parameter server: all push, the servers step, all pull.

    push = max(S_remote, n S_max) / B with n = N remote workers of a dedicated server, else N - 1. Without
    overlap t = T + 2a + 2 push + t_apply. With overlap, the push hides in the backward pass and the pull in
    the next forward pass: t = max(T, 2 push / D) + the round trip of the largest variable.
    """
    remote = workers if servers.dedicated else workers - 1
    if remote == 0:
        return machine.step_seconds + machine.apply_seconds
    # A worker that also serves does not send its own share.
    leaves = 1.0 if servers.dedicated or workers > servers.count else 1 - 1 / servers.count
    push = max(leaves, remote * servers.share) * machine.transfer_seconds
    if not overlap:
        return machine.step_seconds + 2 * machine.message_seconds + 2 * push + machine.apply_seconds
    ends = 2 * (machine.message_seconds + machine.largest_variable_bytes / machine.bytes_per_second)
    return max(machine.step_seconds, 2 * push / servers.duplex) + ends + machine.apply_seconds


def ps_async_step_seconds(machine: Machine, workers: int, servers: Servers) -> float:
    """Return the seconds between two steps of one of N workers with an asynchronous parameter server.

    The model is a closed queue (the machine repairman): N workers compute for T, then queue for each server,
    which is busy for s = 2 S_share / (D B) + t_apply per visit. Exact mean value analysis gives N / X_N, with
    R_n = s (1 + Q_{n-1}), X_n = n / (T + sum R_n) and Q_n = X_n R_n.

    Source: Reiser & Lavenberg 1980, *Mean-value analysis of closed multichain queuing networks*.
    """
    rest = (1 - servers.share) / (servers.count - 1) if servers.count > 1 else 0.0
    shares = [servers.share] + [rest] * (servers.count - 1)
    both_ways = 2 * machine.transfer_seconds / servers.duplex
    service = [share * both_ways + machine.apply_seconds / servers.count for share in shares]
    queue = [0.0] * servers.count
    cycle = machine.step_seconds
    for n in range(1, workers + 1):
        response = [s * (1 + waiting) for s, waiting in zip(service, queue, strict=True)]
        cycle = machine.step_seconds + 2 * machine.message_seconds + sum(response)
        queue = [n / cycle * seconds for seconds in response]
    return cycle


def step_seconds(
    method: Method, machine: Machine, workers: int, servers: Servers | None = None, *, overlap: bool = False
) -> float:
    """Return the seconds of a step of N workers with any of the methods; efficiency is T divided by this.

    Raises:
        ValueError: fewer than one worker.
    """
    if workers < 1:
        raise ValueError(f"workers={workers} must be 1 or more")
    if method == "ring":
        return ring_step_seconds(machine, workers, overlap=overlap)
    if method == "ps_sync":
        return ps_sync_step_seconds(machine, workers, servers or Servers(), overlap=overlap)
    return ps_async_step_seconds(machine, workers, servers or Servers())
