"""Images in a file that is mapped into memory, and an index of those that belong to a split."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_BLOCK_IMAGES = 1024


class MappedImages:
    """Images uint8 `[N, C, H, W]`: rows of a mapped file, read when they are used.

    It has those of a tensor's methods that data sets use. A split or a subset has other rows of the same
    file. Facts that need all pixels are kept in a file next to the array.

    Args:
        array: the mapped file, uint8.
        path: the file.
        rows: int64, the images that belong to this part; None for all.
    """

    dtype = torch.uint8
    device = torch.device("cpu")
    ndim = 4

    def __init__(self, array: np.ndarray, path: Path, rows: Tensor | None = None) -> None:
        self.array, self.path = array, path
        self.rows = torch.arange(len(array)) if rows is None else rows
        with warnings.catch_warnings():
            # Nothing writes to the file. Mapped for writing it would count as memory, of which there may be
            # less.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            self.base = torch.from_numpy(array)

    def __len__(self) -> int:
        """Number of images, N."""
        return len(self.rows)

    @property
    def shape(self) -> torch.Size:
        """Images, channels, height and width."""
        return torch.Size((len(self.rows), *self.base.shape[1:]))

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels."""
        return self.shape.numel()

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """Return a copy of the images at `index` in memory; `dim` must be 0."""
        assert dim == 0
        return self.base.index_select(0, self.rows.index_select(0, index))

    def __getitem__(self, part: slice) -> Tensor:
        return self.base.index_select(0, self.rows[part])

    def split(self, size: int) -> Iterator[Tensor]:
        """Yield the images in blocks."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def at(self, indices: np.ndarray | Tensor) -> MappedImages:
        """Return the images at `indices` without a copy."""
        return MappedImages(self.array, self.path, self.rows[torch.as_tensor(indices, dtype=torch.int64)])

    def to(self, device: torch.device | str) -> Tensor | MappedImages:
        """Return the images on another device; on a CPU they stay in the file."""
        device = torch.device(device)
        if device.type == "cpu":
            return self
        found = torch.empty(tuple(self.shape), dtype=torch.uint8, device=device)
        for start in range(0, len(self), _BLOCK_IMAGES):
            found[start : start + _BLOCK_IMAGES] = self[start : start + _BLOCK_IMAGES].to(device)
        return found

    def remembered(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return a fact of these images as plain values; it is computed once and kept next to the file."""
        name = f"{name}-{hashlib.sha256(self.rows.numpy().tobytes()).hexdigest()[:16]}"
        file = self.path.with_suffix(".facts.json")
        facts: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            facts = json.loads(file.read_text(encoding="utf-8"))
        if name not in facts:
            facts[name] = compute()
            part = file.with_name(f".{file.name}.{os.getpid()}")
            with contextlib.suppress(OSError):  # of a cache of another user: computed again the next time
                part.write_text(json.dumps(facts), encoding="utf-8")
                part.replace(file)
        return facts[name]
