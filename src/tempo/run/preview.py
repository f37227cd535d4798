"""`preview=true`: the schedule on the screen and as a picture, before any data is read."""

from __future__ import annotations

from pathlib import Path

from tempo.config.check import Config
from tempo.config.run_length import planned_steps, schedule_of
from tempo.scheduler.preview import preview_figure, preview_table

_POINTS_OF_AN_UNKNOWN_RUN = 1000


def show_preview(config: Config, folder: Path) -> None:
    """Print and plot learning rate and momentum against the step."""
    schedule = schedule_of(config)
    steps = planned_steps(config)
    if steps is None:
        print(
            "The size of this data set is not known before it is read: the axis is in thousandths of the run."
        )
    print(preview_table(schedule, steps or _POINTS_OF_AN_UNKNOWN_RUN))
    path = folder / "schedule.png"
    label = "optimizer step" if steps else "thousandth of the run"
    preview_figure(schedule, steps or _POINTS_OF_AN_UNKNOWN_RUN, path, label)
    print(f"picture: {path}")
