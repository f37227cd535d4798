"""Where a sweep of this process had its folder, for what is made of all its jobs at the end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from tempo.record.run_json import SWEEP_FILE


class SweepEnd(Callback):
    """Remembers the sweep that began: Hydra tells nobody of the end of one that has failed jobs."""

    begun: ClassVar[tuple[DictConfig, float] | None] = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Keep the configuration; its folder is known when the sweeper has named it."""
        SweepEnd.begun = (config, time.time())

    @classmethod
    def folder(cls) -> Path | None:
        """The folder of the sweep that ran in this process; None where it did not come to its jobs."""
        if cls.begun is None:
            return None
        config, since = cls.begun
        try:
            folder = Path(config.hydra.sweep.dir).expanduser().absolute()
            # A sweep whose jobs were refused leaves the file of an earlier one alone.
            return folder if (folder / SWEEP_FILE).stat().st_mtime >= since - 1 else None
        except (OmegaConfBaseException, OSError):
            return None
