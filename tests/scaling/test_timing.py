"""From marks of a clock to seconds a step."""

from __future__ import annotations

import pytest

from tempo.scaling.timing import (
    differences,
    seconds_a_step,
    stepped_and_behind,
    trained_images_per_second,
)


def test_differences_begin_at_zero() -> None:
    assert differences([1.0, 3.0, 6.0]) == [1.0, 2.0, 3.0]


def test_only_intervals_in_which_all_workers_ran_count() -> None:
    """Two steps an interval. The quick worker ends at 4 s, and the slow one is alone for two intervals."""
    quick, slow = [2.0, 4.0], [3.0, 4.0, 6.0, 9.0]
    assert seconds_a_step([quick, slow], 2) == [[1.0, 1.0], [1.5, 0.5]]


def test_a_worker_whose_first_interval_outlasts_the_others_counts_once() -> None:
    assert seconds_a_step([[1.0], [5.0, 9.0]], 1) == [[1.0], [5.0]]


def test_a_dropped_gradient_is_neither_an_image_nor_late() -> None:
    assert stepped_and_behind([0, None, 2, 1, None, None], 3, 2) == ([1, 2, 0], [0, 3, 0])
    assert stepped_and_behind([], 2, 5) == ([5, 5], [0, 0])
    # 8 images a step of 0.5 s, three of six stepped: 24 images in 3 s.
    assert trained_images_per_second(8, [0.5, 0.5, 0.5], [1, 2, 0], 2) == pytest.approx(24 / 3)
