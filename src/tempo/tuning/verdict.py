"""Compare the tuned with the default setting, and decide which to keep."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tempo.config.schema import SMOKE
from tempo.data.run_data_module import ImageDataModule, RunDataModule
from tempo.errors import UserError
from tempo.report.grouping import Setting
from tempo.report.load_runs import Array, Run
from tempo.report.number_format import mean_and_sd, metric_name
from tempo.report.statistics import compare, statistics
from tempo.run.evaluate import evaluate_unused
from tempo.tuning.choice import Candidate, Choice, choose

MOST_IMAGES = 10_000
"""Largest number of images for the verdict."""


def train_size_for_verdict(data: RunDataModule) -> int:
    """Return the number of training images that leaves at least as many images unused as validation has.

    Raises:
        UserError: the data are not images in memory, or fewer images would be left for training than for
            validation.
    """
    if not isinstance(data, ImageDataModule):
        raise UserError(
            f"data={data.name}: the verdict needs images of tempo's own that no run uses; set "
            "tune.compare_seeds=0 for no verdict"
        )
    images = data.sizes["val"]
    size = data.items - max(0, images - data.unused)
    if size < images:
        raise UserError(
            f"{images} validation images and as many for the verdict leave only {size} for training; set "
            "data.val_size=0.1, or tune.compare_seeds=0 for no verdict"
        )
    return size


def on_unused(runs: Sequence[Run]) -> list[dict[str, float]]:
    """Return each run's `loss` and `accuracy` on `images` that chose nothing; {} if it did not complete.

    They are training images that no run of the procedure trains or validates on.
    """
    return [
        evaluate_unused(run.folder, MOST_IMAGES) if run.record.status == "completed" else {} for run in runs
    ]


def verdict(
    tuned: Sequence[Run],
    default: Sequence[Run],
    metric: str,
    test: Callable[[Sequence[Run]], Sequence[Mapping[str, float]]] = on_unused,
) -> Choice | None:
    """Choose between tuned and default by the rule of the stages; None for fewer than two seeds.

    Both are judged by the state that they test, on images that chose nothing: neither the value of a stage
    nor a checkpoint. If the default is clearly better, tuned.yaml gets the default setting, so that the
    procedure never makes results worse.
    """
    if len(tuned) < 2:
        return None
    arms = {"tuned": tuned, "default": default}
    name, candidates, images = metric.partition("/")[2], [], 0.0
    for label, runs in arms.items():
        found = test(runs)
        images = max(images, *(result.get("images", 0.0) for result in found))
        scores = tuple(result.get(name, math.nan) for result in found)
        candidates.append(Candidate(label, (), label, scores, "a seed diverged"))
    states = ", ".join(f"{label}: {_tested_state(runs)}" for label, runs in arms.items())
    where = f"on {images:.0f} images that chose nothing, at the state that is tested ({states})"
    return choose("tuned or default", name, candidates, where=where)


def _tested_state(runs: Sequence[Run]) -> str:
    by = next((run.record.selected["by"] for run in runs if run.record.selected), "last")
    return "the last" if by == "last" else f"the best by {metric_name(by)}"


def comparison_json(
    tuned: Sequence[Run], default: Sequence[Run], judged: Choice | None
) -> dict[str, Any] | None:
    """Return the comparison as plain values for `tune.json`; None without runs."""
    if not tuned:
        return None
    found: dict[str, Any] = {"verdict": None if judged is None else judged.as_json()}
    for label, runs in (("tuned", tuned), ("default", default)):
        test = statistics(Setting(label, (), tuple(runs)), "test/accuracy")
        found[label] = {"test/accuracy": {"mean": test.mean, "sd": test.sd, "n": test.n}}
    if (best := best_mean_accuracy(default)) is not None:
        epoch, accuracy = best
        found["epochs to equal validation accuracy"] = {
            "accuracy": accuracy,
            "tuned": epochs_to(tuned, accuracy),
            "default": epoch,
        }
    return found


def comparison_lines(tuned: Sequence[Run], default: Sequence[Run], cost: str) -> list[str]:
    """Return lines for the screen: means, cost, difference with its interval, epochs to equal accuracy."""
    if not tuned:
        return []
    a, b = Setting("tuned", (), tuple(tuned)), Setting("default", (), tuple(default))
    lines = []
    for setting in (a, b):
        test = statistics(setting, "test/accuracy")
        accuracy = mean_and_sd(test.mean, test.sd, "test/accuracy")
        lines.append(
            f"{setting.label}: test accuracy {accuracy} %, {test.n} of {len(setting.runs)} seeds completed"
        )
    lines[0] += f"; the whole procedure took {cost}"
    if a.completed and b.completed:
        lines.append(compare(a, b, "test/accuracy").words.removesuffix(f" [{SMOKE}]"))
        if (best := best_mean_accuracy(b.completed)) is not None:
            lines.append(_epochs_line(*best, epochs_to(a.completed, best[1])))
    return lines


def kept_words(judged: Choice, tuned: Sequence[Run], default: Sequence[Run]) -> str:
    """Say which setting is kept and why, and whether the test images agree, which must not choose."""
    kept = judged.chosen.label
    a, b = Setting("tuned", (), tuple(tuned)), Setting("default", (), tuple(default))
    opinion = "do not tell the two apart"
    if a.completed and b.completed and (found := compare(a, b, "test/accuracy")).distinguishable:
        opinion = "agree" if found.better.label == kept else "say otherwise, but they choose nothing"
    return f"{kept}, by its {judged.metric} on images that no run has used; the test images {opinion}"


def _epochs_line(epoch: float, accuracy: float, tuned: float | None) -> str:
    reaches = "does not reach it" if tuned is None else f"reaches it after {tuned:g}"
    return (
        f"the default's mean validation accuracy is highest after {epoch:g} epoch{'s' * (epoch != 1)}, "
        f"{100 * accuracy:.2f} %: "
        f"tuned {reaches}"
    )


def epochs_to(runs: Sequence[Run], accuracy: float) -> float | None:
    """Return the first epoch at which the mean validation accuracy reaches a value, or None."""
    epochs, means = _mean_accuracy(runs)
    reached = np.flatnonzero(means >= accuracy)
    return float(epochs[reached[0]]) if len(reached) else None


def best_mean_accuracy(runs: Sequence[Run]) -> tuple[float, float] | None:
    """Return the epoch of the highest mean validation accuracy, and that accuracy; None without runs."""
    epochs, means = _mean_accuracy(runs)
    return (float(epochs[means.argmax()]), float(means.max())) if len(means) else None


def _mean_accuracy(runs: Sequence[Run]) -> tuple[Array, Array]:
    """Average over the completed runs, at the epochs `[n]` of the first."""
    series = [run.series("val/accuracy") for run in runs if run.record.status == "completed"]
    if not series:
        return np.empty(0), np.empty(0)
    epochs = series[0][0]
    return epochs, np.mean([np.interp(epochs, xs, ys) for xs, ys in series], axis=0)
