"""Collect what the charts and the runs table of a page need, as plain values for its JSON block."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tempo.errors import UserError
from tempo.record.metric_names import is_share
from tempo.record.test_images import TEST_IMAGES_FILE, ClassifiedImages
from tempo.report.grouping import (
    NOT_A_SETTING,
    NOT_A_SETTING_BELOW,
    differing,
    value_of,
)
from tempo.report.load_runs import Array, Run, evenly_spaced
from tempo.report.number_format import ABSENT, head_of, human, more_is_better, short_keys, shown_path
from tempo.report.results_table import ordered_metrics
from tempo.report.statistics import Summary

X_COLUMNS = ("step", "epoch", "seconds")
POINTS_OF_ALL_CURVES = 40_000
"""Points of one curve times the number of runs: bounds the size of a page."""
FEWEST_POINTS, MOST_POINTS = 60, 400
TITLES = {"lr": "learning rate"}
MOST_OTHER_KEYS = 60
"""Keys that differ without telling settings apart; further ones are only in the table of keys that differ."""
MOST_IMAGE_BYTES = 2_500_000
"""Size of all confusion matrices and wrong images in a page, the best runs first."""
_SIGNIFICANT = 6


def chart_data(summary: Summary, link: Callable[[Path], str | None], *, images: bool) -> dict[str, Any]:
    """Return settings, runs, keys, metrics and curves of a report; runs are in the order of the ranking.

    `link` returns the address of a run's folder from the page, or None. Without `images`, the page is to ask
    for confusion matrices and wrong images.
    """
    ranked = summary.ranked
    runs = [(at, run) for at, setting in enumerate(ranked) for run in setting.runs]
    keys = [*summary.keys, *_other_keys(summary)]
    most = max(FEWEST_POINTS, min(MOST_POINTS, POINTS_OF_ALL_CURVES // max(1, len(runs))))
    described = [_run(run, at, keys, most) | {"link": link(run.folder)} for at, run in runs]
    if images:
        for values, found in zip(described, _within_limit([run for _, run in runs]), strict=True):
            values["test_images"] = found
    metrics = ordered_metrics(summary)
    curves = dict.fromkeys(name for run in described for rows in run["curves"] for name in rows["y"])
    return {
        "metric": summary.metric,
        "metrics": metrics,
        "curves": sorted(curves, key=_panel_order),
        "titles": {name: TITLES.get(name, head_of(name)) for name in {*metrics, *curves, summary.metric}},
        "shares": sorted(name for name in {*metrics, *curves} if is_share(name)),
        "larger_is_better": {
            name: summary.more_is_better if name == summary.metric else more_is_better(name)
            for name in {*metrics, *curves, summary.metric}
        },
        "keys": [
            {"key": key, "name": name, "tells": key in summary.keys}
            for key, name in zip(keys, short_keys(tuple(keys)), strict=True)
        ],
        "settings": [setting.label for setting in ranked],
        "runs": described,
    }


def test_images_of(run: Run) -> dict[str, Any] | None:
    """Return confusion matrix and wrong images of a run, or why they cannot be read; None without them."""
    try:
        found = ClassifiedImages.read(run.folder)
    except UserError as error:
        return {"error": str(error)}
    return None if found is None else dataclasses.asdict(found)


def _within_limit(runs: Sequence[Run]) -> Iterator[dict[str, Any] | None]:
    left = MOST_IMAGE_BYTES
    for run in runs:
        found = test_images_of(run) if left > 0 else None
        size = len(json.dumps(found)) if found is not None else 0
        if size > left:
            found = {"error": f"left out to keep the page small: the run's folder has {TEST_IMAGES_FILE}"}
        left -= size
        yield found


def json_block(values: Any) -> str:
    """Return strict JSON for a `<script type="application/json">`: no text in it can end the element."""
    text = json.dumps(values, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def progress_of(run: Run) -> float | None:
    """Return the share of its planned steps or epochs that a run has done; None if it has no plan."""
    trainer = run.record.config.get("trainer")
    trainer = trainer if isinstance(trainer, dict) else {}
    for planned, column, recorded in (
        (trainer.get("max_steps"), "step", run.record.steps),
        (trainer.get("epochs"), "epoch", run.record.epochs),
    ):
        if isinstance(planned, (int, float)) and planned > 0:
            values = run.curves.get(column, np.empty(0))
            reached = [float(recorded), *values[np.isfinite(values)][-1:].tolist()]
            return min(1.0, max(reached) / planned)
    return None


def _other_keys(summary: Summary) -> list[str]:
    return [
        key
        for key in differing(summary.runs)
        if key not in NOT_A_SETTING and not key.startswith(NOT_A_SETTING_BELOW) and key not in summary.keys
    ][:MOST_OTHER_KEYS]


def _run(run: Run, setting: int, keys: Sequence[str], most: int) -> dict[str, Any]:
    record = run.record
    names = [f"{split}/{name}" for split, of in record.metrics.items() for name in of]
    batch = record.batch.get("total")
    return {
        "folder": shown_path(run.folder),
        "setting": setting,
        "sweep": run.sweep.folder.name if run.sweep else "",
        "seed": record.seed,
        "fold": run.flat.get("data.fold"),
        "status": record.status,
        "smoke": run.smoke,
        "values": [_plain(value_of(run, key)) for key in keys],
        "metrics": {name: _number(run.metric(name)) for name in names},
        "steps": record.steps,
        "epochs": _number(record.epochs),
        "seconds": _number(run.train_seconds),
        "speed": _number(record.images_per_second),
        "joules": _number(run.joules),
        "batch": batch if isinstance(batch, int) else run.flat.get("data.total_batch_size"),
        "progress": progress_of(run) if record.status == "running" else None,
        "command": run.command,
        "curves": curves_of(run, most),
    }


def curves_of(run: Run, most: int) -> list[dict[str, Any]]:
    """Return the columns of metrics.csv as `{"x": {"step": [..], ..}, "y": {"val/loss": [..], ..}}`.

    Columns that were written in the same rows share their x values. At most `most` rows of each are kept,
    both ends among them.
    """
    together: dict[bytes, tuple[NDArray[np.intp], list[str]]] = {}
    if "step" not in run.curves:
        return []
    for name, values in run.curves.items():
        rows = np.flatnonzero(np.isfinite(values) & np.isfinite(run.curves["step"]))
        if name not in X_COLUMNS and len(rows):
            together.setdefault(rows.tobytes(), (rows, []))[1].append(name)
    found = []
    for rows, names in together.values():
        # A resumed run may have written a step twice; the later row counts.
        latest = dict(sorted({float(run.curves["step"][row]): row for row in rows.tolist()}.items()))
        kept = np.array(list(latest.values()))[evenly_spaced(len(latest), most)]

        x_names = [name for name in X_COLUMNS if name in run.curves]
        x, y = ({name: _numbers(run.curves[name][kept]) for name in those} for those in (x_names, names))
        found.append({"x": x, "y": y})
    return found


def _panel_order(name: str) -> tuple[int, str]:
    usual = ("val/loss", "val/accuracy", "train/loss", "train/accuracy", "test/loss", "test/accuracy")
    return (usual.index(name) if name in usual else len(usual), name)


def _plain(value: Any) -> Any:
    """Return a value of a configuration as JSON has it: lists and nodes as text, absent keys as null."""
    if value == ABSENT:
        return None
    if isinstance(value, float):
        return value if math.isfinite(value) else human(value)
    return value if isinstance(value, (bool, int, str)) or value is None else human(value)


def _numbers(values: Array) -> list[float | None]:
    return [_number(value) for value in values.tolist()]


def _number(value: float) -> float | None:
    """Return a number with six significant digits, a whole one exactly; None if it is not finite."""
    if not math.isfinite(value):
        return None
    if float(value).is_integer() and abs(value) < 1e15:
        return int(value)  # steps stay exact, and `1` is shorter than `1.0`
    return float(f"{value:.{_SIGNIFICANT}g}")
