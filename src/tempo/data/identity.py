"""Identity of a user's data: a digest, and what it covers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import Subset, TensorDataset

from tempo.data.random_seeds import seed_global_generators

_SAMPLED_ITEMS = 16


def identity(source: Any, dataset: Any) -> tuple[str, str]:
    """Return the SHA-256 that stands for a data set, and what it covers.

    `declared`: the attribute `sha256` of the data module or of its data set. `whole`: all values of a
    TensorDataset. `sampled`: the number of items and 16 of them, evenly spaced; a change to another item is
    not seen.
    """
    declared = getattr(source, "sha256", None)
    if isinstance(declared, str) and declared:
        return declared, "declared"
    digest = hashlib.sha256()
    inner, indices = dataset, None
    while isinstance(inner, Subset):
        chosen = np.asarray(inner.indices)
        indices = chosen if indices is None else chosen[indices]
        inner = inner.dataset
    if isinstance(declared := getattr(inner, "sha256", None), str) and declared:
        digest.update(declared.encode() + (b"" if indices is None else indices.tobytes()))
        return digest.hexdigest(), "declared"
    if isinstance(inner, TensorDataset):
        for tensor in inner.tensors:
            _add(digest, tensor)
        if indices is not None:
            digest.update(indices.tobytes())
        return digest.hexdigest(), "whole"
    count = len(dataset)
    digest.update(str(count).encode())
    for index in np.unique(np.linspace(0, count - 1, min(count, _SAMPLED_ITEMS)).astype(int)):
        seed_global_generators(0)  # an item may be augmented
        try:
            item = dataset[int(index)]
        except Exception as error:  # noqa: BLE001 - the run names the item when it needs it
            item = type(error).__name__
        _add(digest, item)
    return digest.hexdigest(), "sampled"


def _add(digest: Any, value: Any) -> None:
    """Add a value to a digest: its type, and its content as far as it is known."""
    digest.update(type(value).__name__.encode())
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        digest.update(repr((value.dtype, tuple(value.shape))).encode())
        digest.update(
            value.contiguous().view(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b""
        )
    elif isinstance(value, np.ndarray) and value.dtype != object:
        digest.update(repr((str(value.dtype), value.shape)).encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            digest.update(str(key).encode())
            _add(digest, inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _add(digest, inner)
    elif isinstance(value, (str, bytes, int, float, bool, type(None))):
        digest.update(repr(value).encode())
    elif hasattr(value, "tobytes") and hasattr(value, "size"):  # an image of Pillow
        digest.update(repr(value.size).encode())
        digest.update(value.tobytes())
