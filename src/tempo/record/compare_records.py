"""Compare two runs of one configuration: differences between their results, and possible reasons."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tempo.record.run_json import RunRecord, flatten

Curves = Mapping[str, NDArray[np.float64]]
Word = Literal["identical", "same within", "different"]
EXIT_CODES: dict[Word, int] = {"identical": 0, "same within": 3, "different": 4}
WITHOUT_EFFECT = {
    *("resume", "preview", "trainer.profiler", "trainer.threads", "trainer.wrong_images"),
    *("data.root", "data.cache", "scheduler.range_test", "init_from"),
}
"""Keys that change no result. Threads are compared as recorded in the environment, files by their hash."""
GROUPS_WITHOUT_EFFECT = ("logger", "paper", "name", "tags")
_SEEN_IN_THREADS = ("variables.OMP_NUM_THREADS", "variables.MKL_NUM_THREADS", "threads.inter_op")
_DIVERGED = re.compile(r"diverged at step (\d+): loss (\S+)")


@dataclass(frozen=True)
class Difference:
    """One value that differs from the record; `size` is |a - b| / max(1, |a|, |b|), infinite for text.

    `size` is 0 for a value that only depends on others, such as a hash of weights.
    """

    where: str
    recorded: Any
    found: Any
    size: float = math.inf

    def __str__(self) -> str:
        return f"{self.where} is {self.found}, recorded {self.recorded}"


@dataclass(frozen=True)
class Verdict:
    """Outcome of a comparison; `causes` are the differences between the two runs apart from their results."""

    word: Word
    tolerance: float
    differences: Sequence[Difference]
    causes: Sequence[str]
    compared: Sequence[str] = field(default_factory=tuple)

    @property
    def exit_code(self) -> int:
        """Exit code: 0 if identical, 3 if the same within the tolerance, 4 if different."""
        return EXIT_CODES[self.word]

    def line(self) -> str:
        """Return the verdict in one line."""
        reasons = "; ".join(self.causes)
        if self.word == "identical":
            return "identical" + (f", although {reasons}" if reasons else "")
        first = self.differences[0]
        if self.word == "same within":
            largest = max(self.differences, key=lambda difference: difference.size)
            size = f"{largest.size:.2g}, {largest if largest.size else first}"
            return f"same within {self.tolerance:g}, because {reasons} (largest difference {size})"
        why = f"; what else differs: {reasons}" if reasons else "; nothing else that is recorded differs"
        return f"different: {first}{why}"


def judge(
    differences: Sequence[Difference], causes: Sequence[str], tolerance: float, compared: Sequence[str]
) -> Verdict:
    """Return the verdict; small differences are accepted only if there is a reason for them."""
    small = all(difference.size <= tolerance for difference in differences)
    word: Word = "identical" if not differences else "same within" if small and causes else "different"
    return Verdict(word, tolerance, differences, causes, compared)


def row_differences(recorded: Curves, found: Curves, up_to: float = math.inf) -> Iterator[Difference]:
    """Yield the cells of metrics.csv that differ, in the order of the file, up to the step `up_to`.

    The column `seconds` is left out, since it always differs.
    """
    columns = [name for name in recorded if name != "seconds"]
    if missing := [name for name in columns if name not in found]:
        yield Difference("metrics.csv, columns", ", ".join(columns), f"without {', '.join(missing)}")
        return
    kept = [np.flatnonzero(curves["step"] <= up_to) for curves in (recorded, found)]
    for one, two in zip(*kept, strict=False):
        step = recorded["step"][one]
        if step != found["step"][two]:
            yield Difference("metrics.csv, next row's step", int(step), int(found["step"][two]))
            return
        for name in columns:
            a, b = float(recorded[name][one]), float(found[name][two])
            if (size := _size(a, b)) != 0:
                yield Difference(f"metrics.csv, step {int(step)}, {name}", a, b, size)
    if len(kept[0]) != len(kept[1]):
        yield Difference("metrics.csv, number of rows", len(kept[0]), len(kept[1]))


def result_differences(recorded: RunRecord, found: RunRecord) -> Iterator[Difference]:
    """Yield the differences of two finished runs: status, steps, end, metrics, weights, in this order."""
    for name in ("status", "steps"):
        if getattr(recorded, name) != getattr(found, name):
            yield Difference(name, getattr(recorded, name), getattr(found, name))
    yield from _end_differences(recorded.reason, found.reason)
    one, two = _results(recorded), _results(found)
    for key in sorted(one.keys() | two.keys()):
        a, b = one.get(key), two.get(key)
        if not _same(a, b):
            # A difference in the last bit can decide which state was better.
            yield Difference(key, a, b, 0.0 if key == "selected.step" else _size(a, b))
    if recorded.weights_sha256 != found.weights_sha256:
        yield Difference("weights_sha256", recorded.weights_sha256, found.weights_sha256, 0.0)


def _results(record: RunRecord) -> dict[str, Any]:
    return _leaves(
        {
            "n_evaluated": str(record.n_evaluated),  # as text, so that no tolerance applies to the count
            "metrics": record.metrics,
            "objective": record.objective,
            "selected": record.selected,
            "init_from": {"weights_sha256": record.init_from.get("weights_sha256", "")},
        }
    )


def _end_differences(recorded: str, found: str) -> Iterator[Difference]:
    """Compare the reasons of two ends; a diverged run must diverge at the same step, with a similar loss."""
    if recorded == found:
        return
    one, two = _DIVERGED.match(recorded), _DIVERGED.match(found)
    if one is None or two is None:
        yield Difference("reason", recorded, found)
    elif one[1] != two[1]:
        yield Difference("the step of the divergence", int(one[1]), int(two[1]))
    else:
        yield Difference("the loss at the divergence", one[2], two[2], _size(float(one[2]), float(two[2])))


def causes(recorded: RunRecord, found: RunRecord, *, same_source: bool) -> list[str]:
    """Return the differences between two runs apart from their results, each as `name: recorded -> found`.

    `same_source`: their commits, if different, have the same source files.
    """
    one, two = _circumstances(recorded), _circumstances(found)
    if same_source:
        two["commit"] = one["commit"]
    changed = {key: (one.get(key), two.get(key)) for key in sorted(one.keys() | two.keys())}
    changed |= config_differences(recorded.config, found.config)
    lines = [f"{key}: {before} -> {now}" for key, (before, now) in changed.items() if before != now]
    if any(session.get("versions", recorded.versions) != recorded.versions for session in recorded.sessions):
        lines.append("the recorded run was resumed with different versions from those it began with")
    if "gpu_capability" in found.environment and not found.config["trainer"]["deterministic"]:
        lines.append("trainer.deterministic=false")
    if recorded.config["trainer"].get("method") == "ps_async":
        lines.append("trainer.method=ps_async: the order in which gradients arrive is random")
    return lines


def config_differences(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the keys that differ and can change a result, with both values."""
    one, two = flatten(recorded), flatten(found)
    return {
        key: (value, two.get(key))
        for key, value in sorted(one.items())
        if value != two.get(key)
        and key not in WITHOUT_EFFECT
        and key.partition(".")[0] not in GROUPS_WITHOUT_EFFECT
    }


def _circumstances(record: RunRecord) -> dict[str, Any]:
    """Return everything outside the configuration that can change a result."""
    git = record.git
    untracked = [f"{name} ({sha256[:8]})" for name, sha256 in git.get("untracked", {}).items()]
    return {
        "commit": str(git.get("commit"))[:10],
        "uncommitted changes": str(git.get("diff_sha256") or "none")[:12],
        "source files unknown to git": ", ".join(untracked) or "none",
        **record.versions,
        "device": record.device,
        "processes": record.world_size,
        **{
            key: value
            for key, value in _leaves(record.environment).items()
            if key not in _SEEN_IN_THREADS and not key.startswith("lock.other")
        },
    }


def _leaves(node: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flatten(node).items() if value != {}}


def _same(one: Any, two: Any) -> bool:
    return one == two or (isinstance(one, float) and isinstance(two, float) and one != one and two != two)


def _size(one: Any, two: Any) -> float:
    """Return |a - b| / max(1, |a|, |b|); 0 for two NaN; infinite unless both are finite numbers."""
    if _same(one, two):
        return 0.0
    if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in (one, two)):
        return math.inf
    return float(abs(one - two) / max(1.0, abs(one), abs(two)))
