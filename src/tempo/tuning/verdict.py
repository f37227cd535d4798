"""Compare the tuned with the default setting, and decide which to keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tempo.report.grouping import Setting
from tempo.report.load_runs import Array, Run
from tempo.report.number_format import mean_and_sd, metric_name
from tempo.report.statistics import compare, statistics
from tempo.tuning.choice import Candidate, Choice, choose, score


def verdict(tuned: Sequence[Run], default: Sequence[Run], metric: str) -> Choice | None:
    """Choose between tuned and default by the rule of the stages; None for fewer than two seeds.

    Both are judged by the validation of the state they test. If the default is clearly better, tuned.yaml
    gets the default setting, so that the procedure never makes results worse.
    """
    if len(tuned) < 2:
        return None
    arms = {"tuned": tuned, "default": default}
    candidates = [
        Candidate(label, (), label, tuple(score(run, metric) for run in runs), "a seed diverged")
        for label, runs in arms.items()
    ]
    states = ", ".join(f"{label}: {_tested_state(runs)}" for label, runs in arms.items())
    return choose("tuned or default", metric, candidates, where=f"at the state that is tested ({states})")


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


def comparison_lines(tuned: Sequence[Run], default: Sequence[Run]) -> list[str]:
    """Return lines for the screen: means, difference with its interval, epochs to equal accuracy."""
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
    if a.completed and b.completed:
        lines.append(compare(a, b, "test/accuracy").words)
        if (best := best_mean_accuracy(b.completed)) is not None:
            lines.append(_epochs_line(*best, epochs_to(a.completed, best[1])))
    return lines


def _epochs_line(epoch: float, accuracy: float, tuned: float | None) -> str:
    reaches = "does not reach it" if tuned is None else f"reaches it after {tuned:g}"
    return (
        f"the default's mean validation accuracy is highest after {epoch:g} epochs, {100 * accuracy:.2f} %: "
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
