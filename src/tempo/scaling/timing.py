"""From the clock's marks to seconds a step."""

from __future__ import annotations

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
