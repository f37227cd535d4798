"""The preview shows the curve: read back from the text and from the pixels."""

from __future__ import annotations

import matplotlib.image
import numpy as np
import pytest

from tempo.scheduler.cosine import Cosine
from tempo.scheduler.multistep import MultiStep
from tempo.scheduler.onecycle import OneCycle
from tempo.scheduler.preview import preview_figure, preview_table
from tempo.scheduler.range_test import RangeTest
from tests.scheduler.options import OPTIONS, build


def rows(table: str) -> dict[int, list[float]]:
    """{step: [lr, momentum]} of the table."""
    fields = [line.split() for line in table.splitlines() if "%" in line]
    return {int(field[0]): [float(value) for value in field[2:]] for field in fields}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("total_steps", [1, 2, 1000])
def test_every_schedule_can_be_previewed(option, total_steps, tmp_path):
    schedule = build(option)
    table = preview_table(schedule, total_steps)
    assert max(len(line) for line in table.splitlines()) <= 80
    read = rows(table)
    assert {0, total_steps - 1} <= set(read)
    for step, values in read.items():
        assert values == pytest.approx(list(schedule.at(step, total_steps).values()), rel=1e-5)
    preview_figure(schedule, total_steps, tmp_path / "schedule.png", x_label="step")
    assert matplotlib.image.imread(tmp_path / "schedule.png").std() > 0.01


def test_corners_are_listed():
    assert {450, 900} <= set(rows(preview_table(OneCycle(min_lr=0.1, max_lr=1.0), 1001)))
    assert {499, 500, 749, 750} <= set(rows(preview_table(MultiStep(lr=0.1), 1000)))
    assert 50 in rows(preview_table(Cosine(lr=0.1, warmup_fraction=0.1), 501))


def test_the_figure_draws_an_exponential_range_as_a_straight_line(tmp_path):
    preview_figure(RangeTest(min_lr=1e-4, max_lr=10.0), 2000, tmp_path / "range.png")
    red, green, blue = np.moveaxis(matplotlib.image.imread(tmp_path / "range.png")[..., :3], -1, 0)
    rows_of_line, columns = np.nonzero((blue > 0.6) & (red < 0.25) & (green < 0.6))
    slope, intercept = np.polyfit(columns, rows_of_line, 1)
    assert np.ptp(columns) > 500
    assert slope < 0, "image rows count from the top"
    assert np.abs(rows_of_line - (slope * columns + intercept)).max() < 4
