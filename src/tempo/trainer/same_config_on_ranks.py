"""Check that all ranks have the same configuration and images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl

from tempo.distributed.collectives import all_gather_bytes
from tempo.errors import UserError
from tempo.record.run_json import flatten


class SameSettings(pl.Callback):
    """Stops every rank before the first step if any two have different settings."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = flatten(settings)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Compare as soon as the group exists; raise UserError with the first key that differs."""
        if trainer.world_size == 1 or stage != "fit":
            return
        texts = all_gather_bytes(json.dumps(self.settings).encode(), trainer.strategy.root_device)
        of_rank_zero, *of_others = (json.loads(text) for text in texts)
        for rank, settings in enumerate(of_others, 1):
            for key in sorted(of_rank_zero.keys() | settings.keys()):
                if str(of_rank_zero.get(key)) != str(settings.get(key)):
                    raise UserError(
                        f"{key}={settings.get(key)} on rank {rank}, but {key}={of_rank_zero.get(key)} on "
                        "rank 0; start all ranks with the same command and data"
                    )
