"""Batches as a pure function of (seed, epoch, position)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tempo.data.augment import FLIP, Augment
from tempo.data.images import ImageData
from tempo.data.split_and_batch_sizes import check_batch_size

# Streams of one seed, whose counters never overlap.
_ORDER, _AUGMENT, _FIRST_FLIP = 0, 1, 2


def _counter(seed: int, stream: int, epoch: int) -> np.random.Philox:
    """Return a counter-based generator (Salmon et al. 2011): 2**192 blocks per (seed, stream, epoch)."""
    key = np.array([seed % 2**64, stream], dtype=np.uint64)
    return np.random.Philox(key=key, counter=np.array([0, 0, 0, epoch], dtype=np.uint64))


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, n: int) -> np.ndarray:
    """Return the permutation of an epoch, int64 `[n]`.

    Sorts raw counter output, which is the same in all versions of numpy, unlike its shuffle. Each index is in
    the low bits of its key, because sort is ten times as fast as argsort.
    """
    bits = np.uint64(max(0, n - 1).bit_length())
    keys = _counter(seed, _ORDER, epoch).random_raw(n) >> bits << bits
    keys |= np.arange(n, dtype=np.uint64)
    keys.sort()
    order = (keys & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)
    order.flags.writeable = False
    return order


@lru_cache(maxsize=2)
def _draws(seed: int, epoch: int, n: int, augment: Augment, height: int, width: int) -> np.ndarray:
    """Return the augmentation draws of an epoch's n images, in the order of the permutation."""
    draws = augment.draw(_counter(seed, _AUGMENT, epoch), n, height, width)
    if augment.flip == "alternate":
        first = _counter(seed, _FIRST_FLIP, 0).random_raw(n)[_order(seed, epoch, n)]
        draws[:, FLIP] = (first + np.uint64(epoch)) % np.uint64(2)
    draws.flags.writeable = False
    return draws


@dataclass(frozen=True)
class BatchPlan:
    """Which images each optimizer step sees.

    The batch of a step is `order[p * TBS : (p + 1) * TBS]`, where `order` is the epoch's permutation and p
    the step's position in the epoch. Rank r has the r-th contiguous part of it, and its micro-batch a the
    a-th part of that. So the batch is the same for any number of devices and any accumulation. The last
    n mod TBS images of a permutation are not used; they differ from epoch to epoch.

    Attributes:
        n: training images.
        total_batch_size: TBS = per_device x world_size x accumulate.
        seed: any integer.
        world_size: devices over all nodes.
        rank: 0 .. world_size - 1.
        accumulate: micro-batches per device and optimizer step.

    Raises:
        UserError: TBS does not divide into equal micro-batches, or is more than n.
    """

    n: int
    total_batch_size: int
    seed: int
    world_size: int = 1
    rank: int = 0
    accumulate: int = 1

    def __post_init__(self) -> None:
        counts = self.total_batch_size, self.accumulate
        if not 0 <= self.rank < self.world_size or min(counts) < 1:
            raise ValueError(f"{self}: rank must be in [0, world_size), the counts at least 1")
        check_batch_size(
            self.total_batch_size, devices=self.world_size, accumulate=self.accumulate, images=self.n
        )

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps per epoch, without the last, incomplete batch."""
        return self.n // self.total_batch_size

    @property
    def per_device(self) -> int:
        """Images per micro-batch."""
        return self.total_batch_size // (self.world_size * self.accumulate)

    @property
    def per_rank(self) -> int:
        """Images per rank and optimizer step."""
        return self.accumulate * self.per_device

    def positions(self, step: int) -> np.ndarray:
        """Return the indices of this rank's images in a step of the run, int64 `[per_rank]`."""
        epoch, position = divmod(step, self.steps_per_epoch)
        return self.epoch_positions(epoch)[position * self.per_rank : (position + 1) * self.per_rank]

    def epoch_positions(self, epoch: int) -> np.ndarray:
        """Return the `positions` of all steps of an epoch, concatenated."""
        return self._rows_of_rank(_order(self.seed, epoch, self.n))

    def epoch_draws(self, epoch: int, augment: Augment, height: int, width: int) -> np.ndarray:
        """Return the draws for `epoch_positions`, int16 `[same, 5]`, columns as in `Augment.draw`."""
        return self._rows_of_rank(_draws(self.seed, epoch, self.n, augment, height, width))

    def _rows_of_rank(self, rows: np.ndarray) -> np.ndarray:
        """Return this rank's rows of an array with one row per image of the epoch."""
        steps, inner = self.steps_per_epoch, rows.shape[1:]
        whole = rows[: steps * self.total_batch_size].reshape(steps, self.world_size, -1, *inner)
        return np.ascontiguousarray(whole[:, self.rank]).reshape(-1, *inner)


class Chunk(NamedTuple):
    """Raw images of several optimizer steps of one rank.

    A trainer's cost per batch can be several times the step of a small network, so it gets several at once.

    Attributes:
        images: uint8 `[steps * accumulate * per_device, C, H, W]`, on the data's device; those of a user's
            loader may be floats.
        labels: int64 `[same]`, or uint8 `[same, classes]` if an image may have several classes.
        draws: int16 `[same, 5]`, columns as in `Augment.draw`; None if nothing is random.
        steps: optimizer steps in the chunk.
    """

    images: Tensor
    labels: Tensor
    draws: Tensor | None
    steps: int


class TrainBatches:
    """The training chunks of an epoch, from the trainer's current step on.

    Iteration starts at the step of the run that `next_step()` returns and ends with that step's epoch, or
    before `last_step`. So training resumes in mid-epoch without any state here. Chunks end at the multiples
    of `steps_per_chunk` counted from the epoch's start, wherever iteration began.

    Args:
        data: training split, on the training device if it fits there.
        plan: which images each step sees; `plan.n` must be `len(data)`.
        augment: decides the draws.
        steps_per_chunk: optimizer steps in a full chunk, 1 or more.
        next_step: returns the number of optimizer steps taken so far.
        last_step: optimizer steps of the whole run, or None.
    """

    def __init__(
        self,
        *,
        data: ImageData,
        plan: BatchPlan,
        augment: Augment,
        steps_per_chunk: int,
        next_step: Callable[[], int],
        last_step: int | None,
    ) -> None:
        if plan.n != len(data):
            raise ValueError(f"the plan is for {plan.n} images, the data has {len(data)}")
        self.data, self.plan, self.augment = data, plan, augment
        self.steps_per_chunk, self.next_step, self.last_step = steps_per_chunk, next_step, last_step
        self._epoch = -1  # of self._indices and self._draws

    def __len__(self) -> int:
        """Chunks per epoch."""
        return math.ceil(self.plan.steps_per_epoch / self.steps_per_chunk)

    def __iter__(self) -> Iterator[Chunk]:
        epoch, position = divmod(self.next_step(), self.plan.steps_per_epoch)
        first, end = epoch * self.plan.steps_per_epoch, self.end_of(epoch)
        while first + position < end:
            stop = min(end - first, (position // self.steps_per_chunk + 1) * self.steps_per_chunk)
            yield self.chunk(first + position, stop - position)
            position = stop

    def end_of(self, epoch: int) -> int:
        """Return the number of the step after the last one of an epoch."""
        end = (epoch + 1) * self.plan.steps_per_epoch
        return end if self.last_step is None else min(end, self.last_step)

    def chunk(self, first_step: int, steps: int) -> Chunk:
        """Return the images of `steps` steps from `first_step` on, all of one epoch."""
        epoch, position = divmod(first_step, self.plan.steps_per_epoch)
        if epoch != self._epoch:
            # Once per epoch, so that no chunk synchronizes with the device.
            plan, device = self.plan, self.data.images.device
            _, height, width = self.data.shape
            self._epoch = epoch
            self._indices = torch.tensor(plan.epoch_positions(epoch), device=device)
            self._draws = torch.tensor(plan.epoch_draws(epoch, self.augment, height, width), device=device)
        part = slice(position * self.plan.per_rank, (position + steps) * self.plan.per_rank)
        index = self._indices[part]
        images, labels = self.data.images, self.data.labels
        return Chunk(images.index_select(0, index), labels.index_select(0, index), self._draws[part], steps)


class EvalBatches:
    """Batches with every image once over all ranks, in order, without padding.

    Rank r has the images r, r + world_size, ..; a rank can have one image less than another, or none.
    Iteration yields uint8 images `[B, C, H, W]` and int64 labels `[B]`, B at most `batch_size`.
    """

    def __init__(self, *, data: ImageData, batch_size: int, world_size: int = 1, rank: int = 0) -> None:
        self.data, self.batch_size, self.world_size, self.rank = data, batch_size, world_size, rank

    def __len__(self) -> int:
        """Number of batches of this rank."""
        return math.ceil(len(range(self.rank, len(self.data), self.world_size)) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        stride = self.batch_size * self.world_size
        for start in range(self.rank, len(self.data), stride):
            part = slice(start, start + stride, self.world_size)
            yield self.data.images[part].contiguous(), self.data.labels[part].contiguous()
