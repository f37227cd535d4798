"""From the clock's marks to seconds a step."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def differences(marks: Sequence[float]) -> list[float]:
    """Lengths of the intervals that end at `marks` and begin at 0."""
    return [end - begin for begin, end in zip([0.0, *marks], marks, strict=False)]


def seconds_a_step(marks_of_ranks: Sequence[Sequence[float]], steps: int) -> list[list[float]]:
    """Rank by rank, seconds a step of each interval that ended while all ranks were still at work."""
    end = min(marks[-1] for marks in marks_of_ranks)
    return [
        [length / steps for length, mark in zip(differences(marks), marks, strict=True) if mark <= end]
        or [marks[0] / steps]
        for marks in marks_of_ranks
    ]


def stepped_and_behind(
    staleness: Sequence[int | None], intervals: int, steps: int
) -> tuple[list[int], list[int]]:
    """Interval by interval, how many gradients the server stepped, and the sum of their staleness.

    `staleness` has a value a step, None where the gradient was dropped; it is empty where steps are
    synchronous, and all are stepped.
    """
    if not staleness:
        return [steps] * intervals, [0] * intervals
    parts = [staleness[at * steps : (at + 1) * steps] for at in range(intervals)]
    kept = [[late for late in part if late is not None] for part in parts]
    return [len(part) for part in kept], [sum(part) for part in kept]


def trained_images_per_second(
    images_a_step: int, seconds: Sequence[float], stepped: Sequence[float], steps: int
) -> float:
    """Of one worker: images a step over the median seconds of it, times the part of steps not dropped."""
    return images_a_step / statistics.median(seconds) * (sum(stepped) / (steps * len(stepped)))
