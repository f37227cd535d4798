"""Ranks that were started with different settings would train on: they compare before the first step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import distributed

from tempo.errors import UserError
from tempo.record.run_json import flatten


class Agreement(pl.Callback):
    """Every rank shows its settings to every other; all of them stop where two differ."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = flatten(settings)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Compare as soon as the group stands; raises UserError with the first key that differs."""
        if trainer.world_size == 1 or stage != "fit":
            return
        first, *others = (json.loads(text) for text in _of_all_ranks(trainer, json.dumps(self.settings)))
        for rank, found in enumerate(others, 1):
            for key in sorted(first.keys() | found.keys()):
                if str(first.get(key)) != str(found.get(key)):
                    raise UserError(
                        f"{key}={found.get(key)} on rank {rank}, {key}={first.get(key)} on rank 0: "
                        "start all ranks with the same command and data"
                    )


def _of_all_ranks(trainer: pl.Trainer, text: str) -> list[str]:
    """The text of each rank, as bytes: what comes from another process is not unpickled."""
    device = trainer.strategy.root_device
    mine = torch.tensor(list(text.encode()), dtype=torch.uint8, device=device)
    lengths = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(trainer.world_size)]
    distributed.all_gather(lengths, torch.tensor([len(mine)], device=device))
    padded = torch.zeros(int(max(lengths)), dtype=torch.uint8, device=device)
    rows = [torch.zeros_like(padded) for _ in lengths]
    padded[: len(mine)] = mine
    distributed.all_gather(rows, padded)
    return [bytes(row[: int(size)].tolist()).decode() for row, size in zip(rows, lengths, strict=True)]
