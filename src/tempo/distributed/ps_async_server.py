"""`trainer.method=ps_async`: the asynchronous parameter server as a plain class, without Ray."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Instruction = Literal["work", "wait", "drained", "finished"]
Wire = NDArray[np.uint8]
SetSchedule = Callable[[int], Any]
"""Function that writes the schedule's values at a step into an optimizer."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The server's answer to a worker.

    `instruction` is "work" on the batch with number `batch`; "wait" while other workers still hold the last
    batches; "drained" when every batch given out is stepped and no more may be given out yet; or "finished"
    when training is over. `parameters` are bytes, or None if the worker has this `version` or needs none.
    `staleness` is the staleness of the gradient just pushed, or -1 if there was none.
    """

    instruction: Instruction
    version: int
    batch: int = -1
    staleness: int = -1
    dropped: bool = False
    parameters: Wire | None = None


@dataclass
class Counts:
    """Traffic of a server. `staleness[k]` is the number of gradients stepped k versions late."""

    staleness: dict[int, int] = field(default_factory=dict)
    dropped: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    steps_of_workers: dict[int, int] = field(default_factory=dict)
    lost: list[int] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Number of gradients applied."""
        return sum(self.staleness.values())

    @property
    def staleness_mean(self) -> float:
        """Mean staleness of the gradients applied; 0 before the first."""
        return sum(late * count for late, count in self.staleness.items()) / max(1, self.steps)


class AsyncServer:
    """Parameters w, their optimizer and its state; every gradient makes a new version:

        w_{v+1} = step(w_v, g(w_r)),  staleness = v - r,

    where r is the version that the worker had read. Batches are numbers, given out in order from `version`
    on, and every batch is stepped once. A worker whose gradient was dropped repeats its batch, and the
    batch of a lost worker goes to the next worker that asks. So when every batch given out is stepped, the
    batches 0 .. version - 1 are done.

    A gradient more than `max_staleness` versions late is dropped, and its worker gets the newest parameters.
    The worker that stepped last is never late, so training always advances.

    Sources: Dean et al. 2012, *Large scale distributed deep networks* (Downpour SGD). Chen et al. 2016,
    *Revisiting distributed synchronous SGD*, and TensorFlow's accumulators also drop stale gradients. Ho et
    al. 2013 (SSP) instead make the fast worker wait for all others, including dead ones.

    Args:
        optimizer: holds the parameters served, in the order of its groups; all of one dtype.
        build_schedule: builds the function that is called with the version before each step.
        version: number of steps that the optimizer has already taken.
        max_staleness: 0 or more; None for no bound.
        until: only batches below this number are given out at first; None for no bound.
        counts: traffic of earlier sessions of the run.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        build_schedule: Callable[[torch.optim.Optimizer], SetSchedule] | None = None,
        version: int = 0,
        max_staleness: int | None = None,
        until: int | None = None,
        counts: Counts | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.set_schedule = None if build_schedule is None else build_schedule(optimizer)
        self.parameters = served_parameters(optimizer)
        self._gradients = [torch.empty_like(parameter, requires_grad=False) for parameter in self.parameters]
        self.version = version
        self.max_staleness = max_staleness
        self.until = until
        self.counts = counts or Counts()
        self.measured: list[tuple[int, Sequence[float]]] = []
        """Steps since the last fetch: the version, and the loss and accuracy that the worker measured."""
        self._next = version
        self._held: dict[int, int] = {}
        """The batch that each worker holds, by worker."""
        self._returned: list[int] = []
        self._seen: set[int] = set()
        self._lost: set[int] = set()
        self._finished = False

    def open(self, until: int | None) -> None:
        """Allow the batches below `until` to be given out."""
        self.until = until

    def close(self) -> int:
        """Stop giving out batches; return the version after all batches given out are stepped."""
        self.until = self._next
        return self._next

    def finish(self) -> None:
        """Answer every later request with "finished"."""
        self._finished = True

    def lose(self, worker: int) -> None:
        """Continue without a worker; its batch goes to the next worker that asks."""
        if worker in self._lost:
            return
        self._lost.add(worker)
        self.counts.lost.append(worker)
        if worker in self._held:
            self._returned.append(self._held.pop(worker))

    def take(self, worker: int, has_version: int = -1) -> Reply:
        """Return a batch, if there is one; `has_version` is the version of the worker's parameters."""
        self._seen.add(worker)
        instruction, batch = self._instruct(worker)
        wanted = has_version != self.version and instruction in ("work", "drained")
        parameters = self._sent() if wanted else None
        return Reply(instruction=instruction, version=self.version, batch=batch, parameters=parameters)

    def push(
        self, worker: int, batch: int, version: int, gradients: Wire, measured: Sequence[float] = ()
    ) -> Reply:
        """Step with the gradients that a worker computed at `version`; return its next instruction."""
        self.counts.received_bytes += gradients.nbytes
        late = self.version - version
        dropped = self.max_staleness is not None and late > self.max_staleness
        if self._finished or self._held.get(worker) != batch:  # the worker had been counted as lost
            dropped = True
        elif dropped:
            self.counts.dropped += 1
        else:
            self._step(gradients)
            del self._held[worker]
            self.counts.staleness[late] = self.counts.staleness.get(late, 0) + 1
            self.counts.steps_of_workers[worker] = self.counts.steps_of_workers.get(worker, 0) + 1
            # Only of steps that were taken: a dropped gradient is no image that was trained on.
            self.measured.append((self.version, tuple(measured)))
            self.version += 1
        instruction, given = self._instruct(worker)
        return Reply(
            instruction=instruction,
            version=self.version,
            batch=given,
            staleness=late,
            dropped=dropped,
            parameters=None if instruction == "finished" else self._sent(),
        )

    def read_counts(self) -> Counts:
        """Return the traffic so far."""
        return copy.deepcopy(self.counts)

    def optimizer_state(self) -> dict[str, Any]:
        """Return the optimizer's state dict, for a checkpoint."""
        return copy.deepcopy(self.optimizer.state_dict())

    def fetch_measured(self) -> list[tuple[int, Sequence[float]]]:
        """Return the workers' measurements at each version since the last call."""
        found, self.measured = self.measured, []
        return found

    def awaited(self, workers: int) -> int:
        """Return the number of workers that have neither asked for a batch yet nor been lost."""
        return workers - len(self._seen | self._lost)

    def _instruct(self, worker: int) -> tuple[Instruction, int]:
        if self._finished or worker in self._lost:
            return "finished", -1
        if worker not in self._held:
            if self._returned:
                self._held[worker] = self._returned.pop(0)
            elif self.until is None or self._next < self.until:
                self._held[worker] = self._next
                self._next += 1
            else:
                return ("drained" if self.version == self._next else "wait"), -1
        return "work", self._held[worker]

    def _step(self, gradients: Wire) -> None:
        if self.set_schedule is not None:
            self.set_schedule(self.version)
        from_wire(gradients, self._gradients)
        for parameter, gradient in zip(self.parameters, self._gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()

    def _sent(self) -> Wire:
        wire = to_wire(self.parameters)
        self.counts.sent_bytes += wire.nbytes
        return wire


def served_parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """Return the parameters of all groups, in order; raise ValueError if their dtypes differ."""
    parameters: list[nn.Parameter] = [p for group in optimizer.param_groups for p in group["params"]]
    if len(dtypes := {parameter.dtype for parameter in parameters}) != 1:
        raise ValueError(f"a server needs parameters of one dtype, not of {sorted(map(str, dtypes))}")
    return parameters


def to_wire(tensors: Sequence[Tensor]) -> Wire:
    """Return the values of tensors of one dtype, one after the other, as bytes."""
    flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors]).cpu()
    wire: Wire = flat.view(torch.uint8).numpy()
    return wire


def from_wire(wire: Wire, tensors: Sequence[Tensor]) -> None:
    """Write the bytes of `to_wire` into tensors of the same shapes and dtype."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that Ray's shared memory is read-only
        flat = torch.from_numpy(wire).view(tensors[0].dtype)
    sizes = [tensor.numel() for tensor in tensors]
    if sum(sizes) != flat.numel():
        raise ValueError(f"received {flat.numel()} values for {sum(sizes)} parameters")
    with torch.no_grad():
        for tensor, part in zip(tensors, flat.split(sizes), strict=True):
            tensor.copy_(part.view_as(tensor))
