"""Hand-made points of a benchmark whose numbers are easy to know."""

from __future__ import annotations

from typing import Any

from tempo.scaling.point import ScalingPoint


def point(workers: int = 2, *, rate: float = 15.0, **values: Any) -> ScalingPoint:
    """One worker alone makes 10 images/s; a step has 8 images a worker."""
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
