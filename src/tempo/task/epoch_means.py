"""Means over the running epoch, kept in checkpoints: Lightning forgets them when a run is resumed."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torchmetrics import Metric

from tempo.task.lightning_internals import running_means

_PARTS = ("value", "cumulated_batch_size")


class EpochMeans:
    """What `self.log(..., on_epoch=True)` and torchmetrics have added up since the start of the epoch.

    With several processes nothing is kept, and the means of the first epoch after a resume cover the part
    since then: each rank has its own sums, but a checkpoint has those of rank 0.
    """

    def __init__(self) -> None:
        self._restored: dict[str, dict[str, torch.Tensor]] = {}

    def state_dict(self, trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, Any]:
        """Return the sums so far, as tensors."""
        if trainer.world_size > 1:
            return {}
        logged = {
            key: {part: getattr(mean, part) for part in _PARTS if hasattr(mean, part)}
            for key, mean in running_means(trainer).items()
        }
        metrics = {name: dict(metric.metric_state) for name, metric in _metrics_of(module)}
        return {"logged": logged, "metrics": metrics}

    def load_state_dict(self, state: dict[str, Any], module: pl.LightningModule) -> None:
        """Restore the torchmetrics; what was logged follows with `add_restored`."""
        self._restored = state.get("logged", {})
        saved = state.get("metrics", {})
        for name, metric in _metrics_of(module):
            for part, value in saved.get(name, {}).items():
                setattr(metric, part, value)

    def add_restored(self, trainer: pl.Trainer) -> None:
        """Add the restored sums; called after the first batch, which has created the entries."""
        if not self._restored:
            return
        for key, mean in running_means(trainer).items():
            for part, value in self._restored.get(key, {}).items():
                setattr(mean, part, value.to(trainer.strategy.root_device) + getattr(mean, part))
        self._restored = {}


def _metrics_of(module: pl.LightningModule) -> list[tuple[str, Metric]]:
    return [(name, part) for name, part in module.named_modules() if isinstance(part, Metric)]
