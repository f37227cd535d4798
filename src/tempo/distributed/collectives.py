"""Collective operations of all ranks, apart from exchanging gradients."""

from __future__ import annotations

import torch
from pytorch_lightning.strategies import Strategy
from torch import Tensor, distributed


def all_gather_bytes(data: bytes, device: torch.device) -> list[bytes]:
    """Return the data of every rank. Unlike torch's `all_gather_object`, this never unpickles anything."""
    # bytearray: torch warns of a buffer that cannot be written to.
    own = torch.frombuffer(bytearray(data), dtype=torch.uint8).to(device)
    lengths = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(distributed.get_world_size())]
    distributed.all_gather(lengths, torch.tensor([len(own)], device=device))
    padded = torch.zeros(int(max(lengths)), dtype=torch.uint8, device=device)
    padded[: len(own)] = own
    rows = [torch.zeros_like(padded) for _ in lengths]
    distributed.all_gather(rows, padded)
    return [row[: int(length)].cpu().numpy().tobytes() for row, length in zip(rows, lengths, strict=True)]


def mean_over_ranks(strategy: Strategy, values: Tensor) -> Tensor:
    """Return the mean of a tensor over the ranks; the tensor itself if there is one rank."""
    return _reduced(strategy, values, "mean")


def sum_over_ranks(strategy: Strategy, values: Tensor) -> Tensor:
    """Return the sum of a tensor over the ranks; the tensor itself if there is one rank."""
    return _reduced(strategy, values, "sum")


def any_rank(strategy: Strategy, flag: bool) -> bool:
    """Whether the flag is true on any rank; all ranks get the same answer, to stop or save together."""
    return bool(strategy.reduce_boolean_decision(flag, all=False))


def _reduced(strategy: Strategy, values: Tensor, operation: str) -> Tensor:
    reduced = strategy.reduce(values, reduce_op=operation)
    assert isinstance(reduced, Tensor)
    return reduced
