"""Points of a benchmark: made by hand, with numbers that are easy to know, or planned by a command."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir

from tempo.config.resolve_interpolations import composed
from tempo.paths import register_resolvers
from tempo.scaling.check_before_scaling import check_points
from tempo.scaling.measured_point import ScalingPoint
from tempo.scaling.plan import PlannedPoint, networks_of, plan_of
from tempo.scaling.scale_settings import ScalingSettings, settings_of, without_scaling
from tests.jobs import CONF


def point(workers: int = 2, *, rate: float = 15.0, **values: Any) -> ScalingPoint:
    """One worker alone makes 10 images/s; a step has 8 images per worker."""
    known: dict[str, Any] = {
        "source": "measured",
        "method": "ring",
        "model": "net",
        "images_per_worker": 8,
        "step_seconds": workers * 8 / rate,
        "compute_seconds": 0.8,
        "single_images_per_second": 10.0,
        "cores": 64,
        "threads": 1,
        "device": "some CPU",
    }
    return ScalingPoint(workers=workers, images_per_second=rate, **{**known, **values})


@dataclass
class Plan:
    """The points of `src/scale.py <overrides>` in a folder, and the settings of the last call."""

    folder: Path
    settings: ScalingSettings = field(init=False)

    def __call__(self, *overrides: str) -> list[PlannedPoint]:
        register_resolvers()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("scaling", overrides=list(overrides), return_hydra_config=True)
            self.settings = settings_of(config, overrides)
            values = composed(without_scaling(config))
            check_points(values, self.settings)
            networks = networks_of(values, self.settings, config.hydra.runtime.choices["model"])
        return plan_of(values, self.settings, networks, self.folder)
