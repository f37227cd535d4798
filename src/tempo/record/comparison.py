"""Two runs of one configuration side by side: where their results differ, and what may be the reason."""

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
PLACES = ("data.root", "data.cache", "scheduler.range_test", "init_from")
"""Keys that say where something lies; what lies there is compared by its hash."""
WITHOUT_EFFECT = ("resume", "preview", "trainer.profiler", "trainer.threads", *PLACES)
"""Keys that change no number; of the threads, those that really computed are compared."""
NO_CONFIG = ("logger", "paper", "name")
_THREADS_SAY_IT = ("variables.OMP_NUM_THREADS", "variables.MKL_NUM_THREADS", "threads.inter_op")
_DIVERGED = re.compile(r"diverged at step (\d+): loss (\S+)")


@dataclass(frozen=True)
class Difference:
    """One value that is not the recorded one; `size` is |a - b| / max(1, |a|, |b|), infinite for words.

    The size of what only follows from other values (a hash of weights) is 0.
    """

    where: str
    recorded: Any
    found: Any
    size: float = math.inf

    def __str__(self) -> str:
        return f"{self.where} is {self.found}, recorded {self.recorded}"


@dataclass(frozen=True)
class Verdict:
    """What came of a comparison; `causes` are what differs between the two beside their results."""

    word: Word
    tolerance: float
    differences: Sequence[Difference]
    causes: Sequence[str]
    compared: Sequence[str] = field(default_factory=tuple)

    @property
    def exit_code(self) -> int:
        """0 identical, 3 the same within the tolerance, 4 different."""
        return EXIT_CODES[self.word]

    @property
    def largest(self) -> Difference | None:
        """The largest difference between two numbers."""
        numbers = [each for each in self.differences if math.isfinite(each.size)]
        return max(numbers, key=lambda each: each.size, default=None)

    def line(self) -> str:
        """The verdict in one line."""
        reasons = "; ".join(self.causes)
        if self.word == "identical":
            return "identical" + (f", although {reasons}" if reasons else "")
        first = self.differences[0]
        if self.word == "same within":
            largest = self.largest
            size = f"{largest.size:.2g}, {largest}" if largest and largest.size else f"0, {first}"
            return f"same within {self.tolerance:g}, because {reasons} (largest difference {size})"
        why = f"; what else differs: {reasons}" if reasons else "; nothing else that is recorded differs"
        return f"different: {first}{why}"


def judge(
    differences: Sequence[Difference], causes: Sequence[str], tolerance: float, compared: Sequence[str]
) -> Verdict:
    """Identical without a difference; the same where all are small and there is a reason for them."""
    small = all(each.size <= tolerance for each in differences)
    word: Word = "identical" if not differences else "same within" if small and causes else "different"
    return Verdict(word, tolerance, differences, causes, compared)


def row_differences(recorded: Curves, found: Curves, up_to: float = math.inf) -> Iterator[Difference]:
    """Cells of metrics.csv that differ, in the order of the file; `seconds` are a clock's, and left out.

    Rows after the step `up_to` are not looked at.
    """
    columns = [name for name in recorded if name != "seconds"]
    if absent := [name for name in columns if name not in found]:
        yield Difference("metrics.csv, columns", ", ".join(columns), f"without {', '.join(absent)}")
        return
    kept = [np.flatnonzero(each["step"] <= up_to) for each in (recorded, found)]
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
    """What two finished runs came to: status, steps, metrics, weights, in this order."""
    for name in ("status", "steps"):
        if getattr(recorded, name) != getattr(found, name):
            yield Difference(name, getattr(recorded, name), getattr(found, name))
    yield from _end_differences(recorded.reason, found.reason)
    if recorded.n_evaluated and recorded.n_evaluated != found.n_evaluated:  # older records do not say it
        yield Difference("n_evaluated", recorded.n_evaluated, found.n_evaluated)
    names = ("metrics", "objective", "selected")
    one, two = ({name: getattr(each, name) for name in names} for each in (recorded, found))
    one, two = _leaves(one), _leaves(two)
    for key in sorted(one.keys() | two.keys()):
        if key in one and key in two and _same(one[key], two[key]):
            continue
        # Which of two states was better may hang on the last bit.
        size = 0.0 if key == "selected.step" else _size(one.get(key), two.get(key))
        yield Difference(key, one.get(key), two.get(key), size)
    begun = [each.init_from.get("weights_sha256", "") for each in (recorded, found)]
    if begun[0] != begun[1]:
        yield Difference("init_from.weights_sha256", begun[0], begun[1])
    if recorded.weights_sha256 != found.weights_sha256:
        yield Difference("weights_sha256", recorded.weights_sha256, found.weights_sha256, 0.0)


def _end_differences(recorded: str, found: str) -> Iterator[Difference]:
    """Two reasons of an end; of a diverged run the step must be the same, the loss may be near."""
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
    """What differs between two runs beside their results, each as `name: recorded -> found`.

    `same_source` says that two commits, though different, have the same source files.
    """
    said = [*_code_causes(recorded, found, same_source)]
    one, two = _circumstances(recorded), _circumstances(found)
    unknown = not recorded.environment
    names = sorted(one if unknown else one.keys() | two.keys())
    said += [
        f"{name}: {one.get(name)} -> {two.get(name)}" for name in names if one.get(name) != two.get(name)
    ]
    changed = config_differences(recorded.config, found.config)
    said += [f"{key}: {before} -> {now}" for key, (before, now) in changed.items()]
    if unknown and not recorded.config["trainer"].get("threads"):
        said.append("threads: not recorded")
    if any(each.get("versions", recorded.versions) != recorded.versions for each in recorded.sessions):
        said.append("the recorded run went on under other versions than it began with")
    if "gpu_capability" in found.environment and not found.config["trainer"]["deterministic"]:
        said.append("trainer.deterministic=false")
    if recorded.config["trainer"].get("method") == "ps_async":
        said.append("trainer.method=ps_async: the order in which gradients arrive is chance")
    return said


def config_differences(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Recorded key -> the two values, of keys that can change a number."""
    one, two = flatten(recorded), flatten(found)
    return {
        key: (value, two.get(key))
        for key, value in sorted(one.items())
        if value != two.get(key) and key not in WITHOUT_EFFECT and key.partition(".")[0] not in NO_CONFIG
    }


def _circumstances(record: RunRecord) -> dict[str, Any]:
    return {
        **record.versions,
        "device": record.device,
        "processes": record.world_size,
        **{
            key: value
            for key, value in _leaves(record.environment).items()
            if key not in _THREADS_SAY_IT and not key.startswith("lock.other")
        },
    }


def _code_causes(recorded: RunRecord, found: RunRecord, same_source: bool) -> Iterator[str]:
    one, two = recorded.git, found.git
    if one.get("commit") != two.get("commit") and not same_source:
        yield f"commit: {str(one.get('commit'))[:10]} -> {str(two.get('commit'))[:10]}"
    if not recorded.environment and one.get("dirty"):
        yield "uncommitted changes: recorded without their diff"
        return
    if one.get("diff_sha256") != two.get("diff_sha256"):
        yield f"uncommitted changes: {_short(one.get('diff_sha256'))} -> {_short(two.get('diff_sha256'))}"
    if one.get("untracked") != two.get("untracked"):
        yield f"source files unknown to git: {_short(one.get('untracked'))} -> {_short(two.get('untracked'))}"


def _short(value: Any) -> str:
    return ", ".join(value) if isinstance(value, Mapping) else str(value or "none")[:12]


def _leaves(node: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flatten(node).items() if value != {}}


def _same(one: Any, two: Any) -> bool:
    return one == two or (isinstance(one, float) and isinstance(two, float) and one != one and two != two)


def _size(one: Any, two: Any) -> float:
    """|a - b| / max(1, |a|, |b|); 0 for two NaN; infinite where only one is a finite number."""
    if _same(one, two):
        return 0.0
    for each in (one, two):
        if not isinstance(each, (int, float)) or not math.isfinite(each):
            return math.inf
    return float(abs(one - two) / max(1.0, abs(one), abs(two)))
