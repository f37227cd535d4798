"""Draw every figure that the runs have data for, as PNG and SVG."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

from tempo.config.schema import SMOKE
from tempo.report.colours_and_axes import RC, Drawing, save
from tempo.report.curve_figures import curve_figures
from tempo.report.result_figures import result_figures
from tempo.report.search_figures import search_figures
from tempo.report.search_trials import Search
from tempo.report.statistics import Summary
from tempo.report.target_figure import target_figures
from tempo.report.time_to_target import Target


@dataclass(frozen=True)
class Drawn:
    """A figure that was written to the disk."""

    name: str
    title: str
    caption: str
    png: Path
    svg: Path


def draw(
    summary: Summary, folder: Path, searches: Sequence[Search] = (), target: Target | None = None
) -> list[Drawn]:
    """Write all figures of runs as `folder/<name>.png` and `.svg`."""
    smoke = any(setting.smoke for setting in summary.settings)
    return write_drawings(_drawings(summary, searches, target), folder, smoke=smoke)


def write_drawings(drawings: Iterable[Drawing], folder: Path, *, smoke: bool) -> list[Drawn]:
    """Write drawings in the style of a report as `folder/<name>.png` and `.svg`."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    with mpl.rc_context(RC):
        for drawing in drawings:
            if drawing.figure is None:
                continue
            caption = drawing.caption
            if smoke:
                drawing.figure.suptitle(SMOKE, color="#B00020", fontweight="bold")
                caption = f"{SMOKE}. {caption}"
            png, svg = folder / f"{drawing.name}.png", folder / f"{drawing.name}.svg"
            save(drawing.figure, png, svg)
            drawn.append(Drawn(drawing.name, drawing.title, caption, png, svg))
    return drawn


def _drawings(summary: Summary, searches: Sequence[Search], target: Target | None) -> Iterator[Drawing]:
    if target is not None:
        yield from target_figures(summary, target)
    for number, search in enumerate(searches, start=1):
        yield from search_figures(search, "search_" if len(searches) == 1 else f"search{number}_")
    yield from curve_figures(summary)
    # Trials of a search do not form a grid, so its slices replace the figures over swept keys.
    searched = {search.sweep.folder for search in searches}
    is_grid = any(run.sweep is None or run.sweep.folder not in searched for run in summary.runs)
    yield from result_figures(summary, over_keys=is_grid)
