"""Draw a metric against the seconds of training, with the target that it should reach."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tempo.report.colours_and_axes import (
    COLOURS,
    Drawing,
    best_settings,
    label_of,
    legend_below,
    new_figure,
    per_cent,
)
from tempo.report.number_format import head_of
from tempo.report.statistics import Summary
from tempo.report.time_to_target import Target


def target_figures(summary: Summary, target: Target) -> Iterator[Drawing]:
    """Yield the figure of a target: one thin line per completed run, a circle where it reached the target."""
    shown, some = best_settings(summary)
    figure, (axes,) = new_figure(1, 1, 7.5, 4.2)
    handles: dict[str, Any] = {}
    for index, setting in enumerate(shown):
        colour = COLOURS[index % len(COLOURS)]
        for run in setting.completed:
            seconds, values = run.series(target.metric, "seconds")
            if not len(seconds):
                continue
            (line,) = axes.plot(seconds, values, color=colour, linewidth=1.2, marker=".", markersize=4)
            handles.setdefault(label_of(setting.label), line)
            if found := target.reached_by(run):
                value = values[seconds.searchsorted(found["seconds"] - 1e-6)]
                axes.plot(found["seconds"], value, "o", color=colour, markersize=7, fillstyle="none")
    axes.axhline(target.value, color="#888888", linestyle="--", linewidth=1)
    axes.set(title=head_of(target.metric), xlabel="seconds of training")
    axes.set_xlim(left=0)
    per_cent(axes, target.metric)
    if len(handles) > 1:
        legend_below(figure, list(handles.values()), list(handles))
    yield Drawing(
        "target",
        f"Time to a {target.words}",
        "One line per run that completed. Dashed: the target; a circle is the first evaluation that reaches "
        f"it. Seconds are of training, without evaluation.{some}",
        figure if handles else None,
    )
