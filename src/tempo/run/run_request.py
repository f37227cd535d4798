"""What a run is told."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from tempo.config.schema import RunConfig
from tempo.trainer.optuna_trial import Trial


@dataclass(kw_only=True)
class RunRequest:
    """A configuration as plain values, the folder of its run, and where the two came from."""

    config: RunConfig
    folder: Path
    overrides: list[str]
    choices: dict[str, str]
    started: float = field(default_factory=time.perf_counter)
    """When the clock of `seconds.total` began."""
    trial: Trial | None = None
    """The trial of a search that this run is."""
    stop_after: int | None = None
    """Optimizer steps after which to stop as if asked to: where a recorded run was stopped."""
