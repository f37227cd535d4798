"""The numbers in the figures, read from matplotlib's own objects, and that nothing in a record breaks one."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure

from tempo.report.colours_and_axes import MOST_POINTS, RC, thin
from tempo.report.curve_figures import schedules, spread, training_curves
from tempo.report.figures import draw
from tempo.report.load_runs import load
from tempo.report.result_figures import against_key, finals, heat_map, trade_off
from tempo.report.run_figures import draw_curves
from tempo.report.statistics import Summary, summarise
from tests.report.example_runs import weight_decay_sweep, write_run


def summary_of(folder: Path) -> Summary:
    return summarise(load([folder]).runs)


def grid(folder: Path) -> Summary:
    """Two rates and two weight decays with two seeds each."""
    for lr in (0.1, 1.0):
        for wd in (0.0, 1e-4):
            for seed in (0, 1):
                value = 0.8 + 0.1 * (lr == 1.0) + 0.01 * seed - 0.05 * (wd == 0)
                changes = {"optimizer__lr": lr, "optimizer__wd": wd}
                write_run(folder / f"{lr}-{wd}-{seed}", val=value, seed=seed, **changes)
    return summary_of(folder)


def test_every_figure_is_written_in_both_formats(tmp_path: Path) -> None:
    drawn = draw(grid(tmp_path / "runs"), tmp_path / "figures")
    assert [figure.name for figure in drawn] == [
        "curves", "schedule", "finals", "final_optimizer.lr", "final_optimizer.wd", "heat_map", "cost",
        "trade_off",
    ]  # fmt: skip
    for figure in drawn:
        header = figure.png.read_bytes()[:24]
        width, height = struct.unpack(">II", header[16:24])
        assert header.startswith(b"\x89PNG")
        assert (width > 500, height > 300) == (True, True)
        assert figure.svg.read_text().lstrip().startswith("<?xml")
        assert "<script" not in figure.svg.read_text()


def test_the_band_is_the_range_over_seeds_and_ends_with_the_shortest_run(tmp_path: Path) -> None:
    weight_decay_sweep(tmp_path, [1e-4], [0, 1, 2], {1e-4: {0: 0.9, 1: 0.8, 2: 0.7}})
    runs = load([tmp_path]).runs
    x, mean, low, high = spread(runs, "val/accuracy")
    table = np.array([run.series("val/accuracy")[1] for run in runs])
    np.testing.assert_allclose(x, np.arange(1, 21) / 4)
    np.testing.assert_allclose(mean, table.mean(axis=0))
    np.testing.assert_array_equal(low, table.min(axis=0))
    np.testing.assert_array_equal(high, table.max(axis=0))
    path = runs[1].folder / "metrics.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:21]) + "\n")  # ten of twenty intervals
    x, *_ = spread(load([tmp_path]).runs, "val/loss")
    np.testing.assert_allclose(x, np.arange(1, 11) / 4)


def test_values_over_decades_have_a_log_axis_with_zero_on_its_left(tmp_path: Path) -> None:
    values = {wd: {0: 0.9} for wd in (0.0, 1e-5, 1e-3)}
    weight_decay_sweep(tmp_path / "wide", list(values), [0], values)
    with rc_context(RC):
        figure = against_key(summary_of(tmp_path / "wide"), "optimizer.wd")
    assert figure is not None
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["0", "1e-5", "1e-3"]
    zero, smallest, _ = axes.get_xticks()
    assert 0 < zero < smallest == 1e-5
    for momentum in (0.9, 0.95, 0.99):
        write_run(tmp_path / f"near/{momentum}", optimizer__momentum=momentum)
    figure = against_key(summary_of(tmp_path / "near"), "optimizer.momentum")
    assert figure is not None
    assert figure.axes[0].get_xscale() == "linear"


def test_the_heat_map_has_the_means(tmp_path: Path) -> None:
    figure = heat_map(grid(tmp_path / "grid"))
    assert figure is not None
    (image,) = figure.axes[0].get_images()
    # rows: lr 0.1, 1; columns: wd 0, 1e-4
    np.testing.assert_allclose(np.asarray(image.get_array()), [[0.755, 0.805], [0.855, 0.905]])
    assert figure.axes[0].texts[0].get_text() == "75.50\n± 0.71"
    values = {wd: {0: 0.9} for wd in (1e-4, 1e-5)}
    weight_decay_sweep(tmp_path / "line", list(values), [0], values)
    assert heat_map(summary_of(tmp_path / "line")) is None


def test_the_dots_are_the_final_accuracies(tmp_path: Path) -> None:
    weight_decay_sweep(tmp_path, [1e-4, 1e-5], [0, 1], {1e-4: {0: 0.9, 1: 0.8}, 1e-5: {0: 0.6, 1: 0.6}})
    figure = finals(summary_of(tmp_path).settings)
    assert figure is not None
    (axes,) = figure.axes
    dots = {item.get_label(): list(item.lines[0].get_xdata()) for item in axes.containers}
    # wd 1e-5, then 1e-4; training is 2 points above, test 1 below
    assert dots == {
        "training accuracy": pytest.approx([62, 87]),
        "validation accuracy": pytest.approx([60, 85]),
        "test accuracy": pytest.approx([59, 84]),
    }
    assert [text.get_text() for text in axes.texts][2:4] == ["60.00 ± 0.00", "85.00 ± 7.07"]
    low, high = axes.get_xlim()
    assert (low > 50, high < 125) == (True, True), "the axis shows the range of the values"


def test_the_trade_off_is_accuracy_against_seconds_and_joules(tmp_path: Path) -> None:
    estimate = "CPU estimated from its rated power and load"
    for wd, joules in ((1e-4, 100.0), (1e-5, 300.0)):
        for seed in (0, 1):
            energy = {"energy": {"joules": joules + 50 * seed, "source": estimate}}
            write_run(tmp_path / f"{wd}-{seed}", val=0.9, seed=seed, fields=energy, optimizer__wd=wd)
    settings = summary_of(tmp_path).settings
    figure = trade_off(settings, "val/accuracy")
    assert figure is not None
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert labels == ["training seconds", "joules of training (estimated)"]
    means = [[float(bar.lines[0].get_xdata()[0]) for bar in axes.containers] for axes in figure.axes]
    assert means == [[20.5, 20.5], [325, 125]]
    write_run(tmp_path / "unasked", val=0.5, optimizer__wd=1e-6)
    figure = trade_off(summary_of(tmp_path).settings, "val/accuracy")
    assert figure is not None
    assert len(figure.axes) == 1, "joules of two of three settings compare nothing"
    assert trade_off(settings[:1], "val/accuracy") is None


def test_equal_schedules_share_a_line_and_a_single_point_is_visible(tmp_path: Path) -> None:
    figure = schedules(grid(tmp_path / "grid").settings)
    assert figure is not None
    assert [len(axes.lines) for axes in figure.axes] == [2, 2]  # two learning rates, wd changes nothing
    write_run(tmp_path / "short/long", val=0.9)
    write_run(tmp_path / "short/cut", val=0.9, rows=1, optimizer__wd=1e-5)
    figure = schedules(summary_of(tmp_path / "short").settings)
    assert figure is not None
    assert [line.get_marker() for axes in figure.axes for line in axes.lines] == ["o", ""] * 2


def constant(folder: Path) -> None:
    """Replace the rates and momenta of a run's curves by constants."""
    head, *rows = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    for row in rows:
        row[3:5] = ["0.1", "0.9"] if row[3] else ["", ""]
    (folder / "metrics.csv").write_text("\n".join(map(",".join, [head, *rows])) + "\n")


def test_a_constant_learning_rate_is_no_figure(tmp_path: Path) -> None:
    for wd in (1e-4, 1e-5):
        write_run(tmp_path / f"r/{wd}", val=0.9, optimizer__wd=wd)
        constant(tmp_path / f"r/{wd}")
    assert schedules(summary_of(tmp_path / "r").settings) is None
    draw_curves(tmp_path / "r/0.0001/metrics.csv", tmp_path / "short.png", "constant")
    write_run(tmp_path / "varied", val=0.9)
    draw_curves(tmp_path / "varied/metrics.csv", tmp_path / "tall.png", "varied")
    heights = [
        struct.unpack(">I", (tmp_path / name).read_bytes()[20:24])[0] for name in ("short.png", "tall.png")
    ]
    assert heights == [360, 720]


def test_the_curves_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accuracy in per cent, a spike of the loss on a log axis, the tested epoch, whole epochs."""
    write_run(tmp_path / "run", val=0.9)
    rows = (tmp_path / "run/metrics.csv").read_text().splitlines()
    cells = rows[1].split(",")
    rows[1] = ",".join([*cells[:5], "1e6", *cells[6:]])
    (tmp_path / "run/metrics.csv").write_text("\n".join(rows) + "\n")
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    draw_curves(tmp_path / "run/metrics.csv", tmp_path / "curves.png", "run", tested_step=300)
    loss, accuracy, *_ = drawn[0].axes
    assert (loss.get_yscale(), accuracy.get_yscale()) == ("log", "linear")
    assert accuracy.get_ylabel() == "accuracy, %"
    assert accuracy.yaxis.get_major_formatter()(0.5, None) == "50"
    tested = [line for line in accuracy.lines if line.get_label() == "tested"]
    assert [line.get_xdata()[0] for line in tested] == [3.0]
    assert all(tick == round(tick) for tick in accuracy.get_xticks())


def test_legends_tell_long_labels_apart(tmp_path: Path) -> None:
    for end in "abc":
        write_run(tmp_path / f"r/{end}", model__variant="x" * 60 + end + "y" * 60)
    figure = training_curves(summary_of(tmp_path / "r").settings)
    assert figure is not None
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(set(texts)) == 3
    assert max(map(len, texts)) < 50


def test_a_diverged_run_ends_in_a_cross_inside_the_axes(tmp_path: Path) -> None:
    write_run(tmp_path / "good", val=0.9)
    write_run(tmp_path / "bad", val=0.9, optimizer__lr=9.0, status="diverged")
    with (tmp_path / "bad/metrics.csv").open("a") as file:
        file.write("501,5.1,21,,,,,1.0e9,0.1\n")
    figure = training_curves(summary_of(tmp_path).settings)
    assert figure is not None
    loss = figure.axes[0]
    (cross,) = [line for line in loss.lines if line.get_marker() == "x"]
    low, high = loss.get_ylim()
    assert high < 100
    assert low <= float(np.asarray(cross.get_ydata())[0]) <= high


def test_a_run_that_diverged_before_its_first_row_leaves_the_curves_their_room(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / f"r/good{seed}", seed=seed, val=0.9)
        write_run(tmp_path / f"r/bad{seed}", seed=seed, rows=0, optimizer__lr=9.0, status="diverged")
    figure = training_curves(summary_of(tmp_path / "r").settings)
    assert figure is not None
    figure.draw_without_rendering()  # a collapsed layout is a warning, and warnings are errors
    assert min(axes.get_position().width for axes in figure.axes) > 0.35


@pytest.mark.parametrize("name", ["_hidden", "$x^2", "<b>&", "名前", "a" * 300])
def test_no_name_breaks_a_figure(tmp_path: Path, name: str) -> None:
    write_run(tmp_path / "r/a", model__variant=name)
    write_run(tmp_path / "r/b", model__variant="plain")
    assert draw(summary_of(tmp_path / "r"), tmp_path / "figures")


def test_runs_without_curves_or_with_one_point_still_draw(tmp_path: Path) -> None:
    write_run(tmp_path / "r/a", rows=1)
    write_run(tmp_path / "r/b", rows=1, optimizer__wd=0.0)
    (tmp_path / "r/b/metrics.csv").unlink()
    assert draw(summary_of(tmp_path / "r"), tmp_path / "figures")[0].name == "curves"
    (tmp_path / "r/a/metrics.csv").unlink()
    names = [figure.name for figure in draw(summary_of(tmp_path / "r"), tmp_path / "more")]
    assert names == ["finals", "final_optimizer.wd", "cost", "trade_off"]


def test_long_curves_are_thinned_with_both_ends() -> None:
    x = np.arange(10_000.0)
    thinned, squared = thin(x, x**2)
    assert len(thinned) <= MOST_POINTS
    assert (thinned[0], thinned[-1]) == (0, 9999)
    np.testing.assert_array_equal(squared, thinned**2)
