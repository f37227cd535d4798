"""Which figures a summary needs, written as PNG and SVG, each with its caption."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from tempo.report.curve_figures import schedules, training_curves
from tempo.report.figure_style import MOST_LINES, RC, save
from tempo.report.grouping import Setting
from tempo.report.number_format import SMOKE, metric_name
from tempo.report.result_figures import MOST_BARS, against_key, cost, finals, heat_map, trade_off
from tempo.report.search_figures import search_figures
from tempo.report.search_results import Search
from tempo.report.statistics import Summary

MOST_KEYS = 4


@dataclass(frozen=True)
class Drawn:
    """A figure on the disk."""

    name: str
    title: str
    caption: str
    png: Path
    svg: Path


def draw(summary: Summary, folder: Path, searches: Sequence[Search] = ()) -> list[Drawn]:
    """All figures that the runs have data for, as `folder/<name>.png` and `.svg`."""
    folder.mkdir(parents=True, exist_ok=True)
    done = []
    searched = {each.sweep.folder for each in searches}
    # Points of a search form no grid: its slices are what lines over a key would show.
    grid = any(run.sweep is None or run.sweep.folder not in searched for run in summary.runs)
    with mpl.rc_context(RC):
        for name, title, caption, figure in chain(_of_searches(searches), _figures(summary, grid)):
            if figure is None:
                continue
            if any(each.smoke for each in summary.settings):
                figure.suptitle(SMOKE, color="#B00020", fontweight="bold")
                caption = f"{SMOKE}. {caption}"
            png, svg = folder / f"{name}.png", folder / f"{name}.svg"
            save(figure, png, svg)
            done.append(Drawn(name, title, caption, png, svg))
    return done


def _of_searches(searches: Sequence[Search]) -> Iterator[tuple[str, str, str, Figure | None]]:
    for at, search in enumerate(searches, start=1):
        yield from search_figures(search, "search_" if len(searches) == 1 else f"search{at}_")


def _figures(summary: Summary, grid: bool) -> Iterator[tuple[str, str, str, Figure | None]]:
    chosen = _few(summary)
    metric = metric_name(summary.metric)
    some = ""
    if len(chosen) < len(summary.settings):
        some = f" The {len(chosen)} best of {len(summary.settings)} settings by {metric}; the table has all."
    yield (
        "curves",
        "Loss and accuracy by epoch",
        "Line: mean over the seeds that completed. Band: from the lowest to the highest seed. Dotted with a "
        f"cross: a diverged run.{some}",
        training_curves(chosen),
    )
    yield (
        "finals",
        "Final accuracies",
        "Mean over the completed runs of a setting, whisker: standard deviation over seeds. That of training "
        f"is over its last logged interval. At most {MOST_BARS} settings.",
        finals(summary.settings),
    )
    for key in summary.keys[:MOST_KEYS] if grid else ():
        yield (
            f"final_{_file_name(key.removesuffix('._target_'))}",
            f"Final {metric} against {key.removesuffix('._target_')}",
            "Marker and whisker: mean ± standard deviation over seeds. Dots: the seeds. Cross at the "
            "foot: no run completed. A value 0 on a log axis stands left of the dotted line. "
            f"At most {MOST_LINES} lines, the best ones.",
            against_key(summary, key),
        )
    over = " The best over the other keys." if len(summary.keys) > 2 else ""
    yield (
        "heat_map",
        f"Final {metric} over two keys",
        f"Mean over seeds, below it the standard deviation. Hatched: no run completed.{over}",
        heat_map(summary) if grid else None,
    )
    yield (
        "schedule",
        "Learning rate and momentum",
        f"As recorded in training; one run a setting, equal schedules share a line.{some}",
        schedules(chosen),
    )
    yield (
        "cost",
        "Cost",
        "Mean over the completed runs of a setting, whisker: standard deviation. Comparable only where the "
        f"device is the same (see environment). At most {MOST_BARS} settings.",
        cost(summary.settings),
    )
    yield (
        "trade_off",
        f"Final {metric} against what training took",
        "Marker and whiskers: mean ± standard deviation over seeds, both ways. Dots: the seeds. Comparable "
        f"only where the device is the same (see environment).{some}",
        trade_off(chosen, summary.metric),
    )


def _few(summary: Summary) -> list[Setting]:
    """As many settings as have a colour: the best, in the order of the table."""
    best = set(summary.ranked[:MOST_LINES])
    return [each for each in summary.settings if each in best]


def _file_name(key: str) -> str:
    return "".join(each if each.isalnum() or each in "._-" else "_" for each in key)
