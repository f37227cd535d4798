"""Ranks that were started with different settings would train on: they compare before the first step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl

from tempo.distributed.collectives import all_gather_bytes
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
        texts = all_gather_bytes(json.dumps(self.settings).encode(), trainer.strategy.root_device)
        first, *others = (json.loads(text) for text in texts)
        for rank, found in enumerate(others, 1):
            for key in sorted(first.keys() | found.keys()):
                if str(first.get(key)) != str(found.get(key)):
                    raise UserError(
                        f"{key}={found.get(key)} on rank {rank}, {key}={first.get(key)} on rank 0: "
                        "start all ranks with the same command and data"
                    )
