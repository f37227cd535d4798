"""An asynchronous parameter server as a plain class: it steps for each gradient, whoever sends it."""

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

Word = Literal["work", "wait", "settled", "over"]
Wire = NDArray[np.uint8]
Pace = Callable[[int], Any]
BuildPace = Callable[[torch.optim.Optimizer], Pace]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the server answers a worker.

    `word`: "work" with the number of a batch in `batch`; "wait" while others still have the last batches
    that were given out; "settled" when all of those are stepped and no more is to be had; "over" after the
    end. `parameters` are bytes, None where the worker has this `version` or does not need it. `staleness`
    is that of the gradient that is answered, -1 where none is.
    """

    word: Word
    version: int
    batch: int = -1
    staleness: int = -1
    dropped: bool = False
    parameters: Wire | None = None


@dataclass
class Counts:
    """What went through a server. `staleness[k]` counts the gradients that were stepped k versions late."""

    staleness: dict[int, int] = field(default_factory=dict)
    dropped: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    steps_of_workers: dict[int, int] = field(default_factory=dict)
    lost: list[int] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Gradients that were stepped."""
        return sum(self.staleness.values())

    @property
    def staleness_mean(self) -> float:
        """Mean over the gradients that were stepped; 0 before the first."""
        return sum(late * count for late, count in self.staleness.items()) / max(1, self.steps)


class AsyncServer:
    """Holds parameters w, their optimizer and its state; each gradient that comes makes one version more:

        w_{v+1} = step(w_v, g(w_r)),  staleness = v - r,

    where r is the version that the worker had read. Batches are numbers, given out in order from `version` on
    and each stepped once: a batch whose gradient was dropped is the same worker's again, and that of a worker
    that is lost the next one's. So when all that were given out are stepped, those done are 0 .. version - 1.

    A gradient later than `max_staleness` versions is dropped and its worker gets the newest parameters; the
    worker that stepped last is never late, so training goes on. None has no bound.

    Sources: Dean et al. 2012, *Large scale distributed deep networks* (Downpour SGD); the bound drops what is
    stale as Chen et al. 2016, *Revisiting distributed synchronous SGD*, and TensorFlow's accumulators do. Ho
    et al. 2013 (SSP) let the quick worker wait instead, for all others, dead ones included.

    Args:
        optimizer: over the parameters that are served, in the order of its groups; they are of one type.
        build_pace: makes of the optimizer what is called with the version before each step, and writes the
            schedule's values into it.
        version: steps behind the optimizer already.
        max_staleness: 0 or more; None for no bound.
        until: batches below this number are given out at first; None for all there are.
        counts: what went through in an earlier session.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        build_pace: BuildPace | None = None,
        version: int = 0,
        max_staleness: int | None = None,
        until: int | None = None,
        counts: Counts | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.pace = None if build_pace is None else build_pace(optimizer)
        self.parameters = served_parameters(optimizer)
        self._gradients = [torch.empty_like(each, requires_grad=False) for each in self.parameters]
        self.version = version
        self.max_staleness = max_staleness
        self.until = until
        self.counts = counts or Counts()
        self.measured: list[tuple[int, Sequence[float]]] = []
        """Version, and what its worker measured with the gradient stepped there, until it is fetched."""
        self._next = version
        self._held: dict[int, int] = {}
        """Worker -> the batch that it has."""
        self._returned: list[int] = []
        self._come: set[int] = set()
        self._gone: set[int] = set()
        self._over = False

    def open(self, until: int | None) -> None:
        """Give out the batches below `until`."""
        self.until = until

    def close(self) -> int:
        """Give out no new batch; the version at which all that were given out are stepped."""
        self.until = self._next
        return self._next

    def finish(self) -> None:
        """Tell every worker that asks that training is over."""
        self._over = True

    def lose(self, worker: int) -> None:
        """Go on without a worker: what it had goes to the next one that asks."""
        if worker in self._gone:
            return
        self._gone.add(worker)
        self.counts.lost.append(worker)
        if worker in self._held:
            self._returned.append(self._held.pop(worker))

    def take(self, worker: int, has_version: int = -1) -> Reply:
        """A batch to work on, where there is one; `has_version` is the version of the worker's parameters."""
        self._come.add(worker)
        word, batch = self._word(worker)
        wanted = has_version != self.version and word in ("work", "settled")
        return Reply(
            word=word, version=self.version, batch=batch, parameters=self._sent() if wanted else None
        )

    def push(
        self, worker: int, batch: int, version: int, gradients: Wire, measured: Sequence[float] = ()
    ) -> Reply:
        """Step with the gradients that a worker found at `version`, and answer with what to do next."""
        self.counts.received_bytes += gradients.nbytes
        late = self.version - version
        dropped = self.max_staleness is not None and late > self.max_staleness
        if self._over or self._held.get(worker) != batch:  # one that was given up, and comes after all
            dropped = True
        elif dropped:
            self.counts.dropped += 1
        else:
            self._step(gradients)
            del self._held[worker]
            self.counts.staleness[late] = self.counts.staleness.get(late, 0) + 1
            self.counts.steps_of_workers[worker] = self.counts.steps_of_workers.get(worker, 0) + 1
            self.measured.append((self.version, tuple(measured)))
            self.version += 1
        word, given = self._word(worker)
        return Reply(
            word=word,
            version=self.version,
            batch=given,
            staleness=late,
            dropped=dropped,
            parameters=None if word == "over" else self._sent(),
        )

    def read_counts(self) -> Counts:
        """What went through so far."""
        return copy.deepcopy(self.counts)

    def optimizer_state(self) -> dict[str, Any]:
        """The optimizer's state dict, for a checkpoint."""
        return copy.deepcopy(self.optimizer.state_dict())

    def fetch_measured(self) -> list[tuple[int, Sequence[float]]]:
        """What was measured at each version since the last call."""
        found, self.measured = self.measured, []
        return found

    def awaited(self, workers: int) -> int:
        """How many of so many workers have neither asked yet nor been lost."""
        return workers - len(self._come | self._gone)

    def _word(self, worker: int) -> tuple[Word, int]:
        if self._over or worker in self._gone:
            return "over", -1
        if worker not in self._held:
            if self._returned:
                self._held[worker] = self._returned.pop(0)
            elif self.until is None or self._next < self.until:
                self._held[worker] = self._next
                self._next += 1
            else:
                return ("settled" if self.version == self._next else "wait"), -1
        return "work", self._held[worker]

    def _step(self, gradients: Wire) -> None:
        if self.pace is not None:
            self.pace(self.version)
        from_wire(gradients, self._gradients)
        for parameter, gradient in zip(self.parameters, self._gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()

    def _sent(self) -> Wire:
        wire = to_wire(self.parameters)
        self.counts.sent_bytes += wire.nbytes
        return wire


def served_parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """The parameters of all groups, in order; ValueError where they are of several types."""
    found: list[nn.Parameter] = [each for group in optimizer.param_groups for each in group["params"]]
    if len(types := {each.dtype for each in found}) != 1:
        raise ValueError(f"a server's parameters are of one type, not of {sorted(map(str, types))}")
    return found


def to_wire(tensors: Sequence[Tensor]) -> Wire:
    """The values of tensors of one type, one after the other, as bytes."""
    flat = torch.cat([each.detach().reshape(-1) for each in tensors]).cpu()
    wire: Wire = flat.view(torch.uint8).numpy()
    return wire


def from_wire(wire: Wire, tensors: Sequence[Tensor]) -> None:
    """Write what `to_wire` made into tensors of the same shapes and type."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shared memory is read-only, and is only read here
        flat = torch.from_numpy(wire).view(tensors[0].dtype)
    sizes = [each.numel() for each in tensors]
    if sum(sizes) != flat.numel():
        raise ValueError(f"{flat.numel()} values came for parameters of {sum(sizes)}")
    with torch.no_grad():
        for each, part in zip(tensors, flat.split(sizes), strict=True):
            each.copy_(part.view_as(each))
