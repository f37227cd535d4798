"""What a worker of the benchmark trains: a network, or variables of its size that sleep for its time."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor, nn

from tempo.config.check import as_target
from tempo.run.build_network import build_network
from tempo.scaling.benchmark_job import BenchmarkJob, Sleep


class SleepNetwork(nn.Module):
    """Variables of given sizes whose forward and backward passes take a given time and no processor.

    Each variable takes an equal part; gradients are zeros and become ready one by one, from the last variable
    to the first, so that what hides in a network's backward pass hides in this one too.
    """

    def __init__(self, sleep: Sleep) -> None:
        super().__init__()
        self.variables = nn.ParameterList(nn.Parameter(torch.zeros(size)) for size in sleep.sizes)
        self.gradients = [torch.zeros(size) for size in sleep.sizes]
        self.forward_clock = Clock(sleep.forward_seconds / len(sleep.sizes))
        self.backward_clock = Clock(sleep.backward_seconds / len(sleep.sizes))

    def forward(self, inputs: Tensor) -> Tensor:
        """Sleep; the result is the input, which depends on every variable."""
        for variable, gradient in zip(self.variables, self.gradients, strict=True):
            inputs = _Asleep.apply(inputs, variable, gradient, self.forward_clock, self.backward_clock)
        return inputs


class Clock:
    """Sleeps of equal length; what one takes too long the next ones give back."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._debt = 0.0

    def sleep(self) -> None:
        """Sleep once."""
        begin = time.perf_counter()
        if (wanted := self.seconds - self._debt) > 0:
            time.sleep(wanted)
        self._debt += time.perf_counter() - begin - self.seconds


class _Asleep(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, variable: Tensor, gradient: Tensor, forward: Clock, backward: Clock
    ) -> Tensor:
        forward.sleep()
        ctx.gradient, ctx.clock = gradient, backward
        return inputs.clone()

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        ctx.clock.sleep()
        return outer, ctx.gradient, None, None, None


def build(job: BenchmarkJob) -> nn.Module:
    """The network of a job; UserError as `build_network`."""
    if job.sleep is not None:
        return SleepNetwork(Sleep(**job.sleep))
    shape = (job.channels, job.image_size, job.image_size)
    return build_network(as_target(job.network or {}), job.seed, shape, job.classes)


def variable_sizes(network: nn.Module) -> list[int]:
    """Elements of each trained variable, in the network's order: `Sleep.sizes`."""
    return [each.numel() for each in network.parameters() if each.requires_grad]
