"""A LightningModule and a LightningDataModule without what training needs: targets of test_builds.py."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl


class OwnModule(pl.LightningModule):
    """Without training_step."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()


def own_module(**settings: Any) -> pl.LightningModule:
    """Only what it returns says what it is."""
    return OwnModule(**settings)


class OwnData(pl.LightningDataModule):
    """Without loaders."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()


def own_data(**settings: Any) -> pl.LightningDataModule:
    """Only what it returns says what it is."""
    return OwnData(**settings)
