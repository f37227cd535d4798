"""What users of Lightning have at hand, and tempo does not train: test_builds.py names them as targets."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl


class OwnModule(pl.LightningModule):
    """With a loss of its own."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()


class OwnSubclass(OwnModule):
    """Of a module of one's own."""


def own_module(**settings: Any) -> pl.LightningModule:
    """Only what it returns says what it is."""
    return OwnModule(**settings)


class OwnData(pl.LightningDataModule):
    """With loaders of its own."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()


def own_data(**settings: Any) -> pl.LightningDataModule:
    """Only what it returns says what it is."""
    return OwnData(**settings)
