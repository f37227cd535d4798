"""Hydra's callback that lets `src/lr_range.py` find the folder of the sweep that it ran."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from tempo.record.run_json import SWEEP_FILE


class SweepEnd(Callback):
    """Remember the sweep when it begins, because Hydra calls nothing at the end of one with failed jobs."""

    begun: ClassVar[tuple[DictConfig, float] | None] = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Keep the configuration, since the sweeper has not named its folder yet."""
        SweepEnd.begun = (config, time.time())

    @classmethod
    def folder(cls) -> Path | None:
        """Return the folder of the sweep that ran in this process; None if it did not start its jobs."""
        if cls.begun is None:
            return None
        config, since = cls.begun
        try:
            folder = Path(config.hydra.sweep.dir).expanduser().absolute()
            # A sweep whose jobs were refused leaves the file of an earlier one unchanged.
            return folder if (folder / SWEEP_FILE).stat().st_mtime >= since - 1 else None
        except (OmegaConfBaseException, OSError):
            return None
