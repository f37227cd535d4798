"""The page in a real browser, with a real mouse: hover, toggle, zoom, filter, dark, a phone's width."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tempo.record.test_images import ClassifiedImages, WrongImage
from tempo.report.write_report import build_report
from tests.report.chromium import Chromium
from tests.report.example_runs import weight_decay_sweep, write_run

DECAYS = [0.0, 1e-5, 1e-4, 1e-3, 1e-2]
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAU0lEQVR4nAFIALf/AAAePFp4lrTSAAEfPVt5l7XTAA"
    "IgPlx6mLbUAAMhP117mbfVAAQiQF58mrjWAAUjQV99m7nXAAYkQmB+nLrYAAclQ2F/nbvZncUbIZPTHswAAAAASUVO"
    "RK5CYII="
)
HOSTILE = "</script><img src=x onerror=document.title=1><b>\u2028$x^2"
CURVE = '#curves svg[data-metric="val/accuracy"]'


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    accuracies = {
        wd: {seed: 0.8 + 0.02 * at + 0.001 * seed for seed in range(3)} for at, wd in enumerate(DECAYS)
    }
    weight_decay_sweep(folder / "s", DECAYS, range(3), accuracies)
    fields = {"metrics": {}, "reason": HOSTILE}
    write_run(
        folder / "s/bad",
        optimizer__wd=1.0,
        model__variant=HOSTILE,
        status="diverged",
        fields=fields,
        overrides=[HOSTILE],
    )
    confusion = [[0, 0, 40], [1, 1, 30], [1, 0, 10]]
    wrong = [WrongImage(true=1, predicted=0, probability=0.75, png=PNG)]
    ClassifiedImages(["cat", HOSTILE], confusion, wrong).write(folder / "s/wd=0.01,seed=0")
    return build_report([folder / "s"], folder / "out")


@pytest.fixture
def browser(chromium: Chromium, page: Path) -> Iterator[Chromium]:
    """The report, freshly opened in a window of 1280 pixels; at the end, its console has no error."""
    chromium.size(1280, 1000)
    chromium.prefer("light")
    chromium.open(page.resolve().as_uri())
    yield chromium
    assert chromium.console == []


def texts(browser: Chromium, selector: str) -> list[str]:
    found = browser.value(
        f"[...document.querySelectorAll({json.dumps(selector)})].map(item => item.textContent)"
    )
    assert isinstance(found, list)
    return found


def lines(browser: Chromium) -> int:
    """Lines of the chart of the validation accuracy."""
    count = browser.value(f"document.querySelectorAll('{CURVE} g[aria-label=line] path').length")
    assert isinstance(count, int)
    return count


def test_pointing_at_a_curve_shows_its_values(browser: Chromium) -> None:
    left, top, width, height = browser.place(CURVE)
    browser.mouse("mouseMoved", left + width - 30, top + height / 3)
    browser.settle()
    (tip,) = texts(browser, f"{CURVE} g[aria-label=tip]")
    assert "wd=" in tip
    assert "epoch" in tip
    assert "validation accuracy" in tip
    assert "%" in tip


def test_lines_are_switched_on_and_off(browser: Chromium) -> None:
    assert lines(browser) == 6
    browser.press("#groups li:first-child input")
    assert lines(browser) == 5
    browser.press("#groups li:first-child input")
    assert lines(browser) == 6


def test_a_drag_zooms_and_a_double_click_zooms_out(browser: Chromium) -> None:
    ticks = f"{CURVE} g[aria-label='x-axis tick label'] text"
    before = texts(browser, ticks)
    left, top, width, height = browser.place(CURVE)
    browser.drag((left + 0.5 * width, top + 0.2 * height), (left + 0.7 * width, top + 0.6 * height))
    assert texts(browser, ticks) != before
    zoomed = [float(text) for text in texts(browser, ticks)]
    assert max(zoomed) - min(zoomed) < 2
    browser.value(f"document.querySelector('{CURVE}').dispatchEvent(new MouseEvent('dblclick'))")
    browser.settle()
    assert texts(browser, ticks) == before


def test_the_system_or_the_button_makes_it_dark(browser: Chromium) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    assert browser.value(colour) == "rgb(255, 255, 255)"
    browser.prefer("dark")
    dark = browser.value(colour)
    assert dark == "rgb(20, 23, 27)"
    browser.press("#theme")
    assert browser.value(colour) == "rgb(255, 255, 255)"
    browser.press("#theme")
    assert browser.value(colour) == dark
    browser.value("localStorage.clear()")


def test_a_phone_needs_no_scrolling_to_the_side(browser: Chromium) -> None:
    browser.size(390, 800)
    assert browser.value("document.documentElement.scrollWidth") <= 390
    assert browser.value(f"document.querySelector('{CURVE}').getBoundingClientRect().right") <= 390


def test_text_of_records_stays_text(browser: Chromium) -> None:
    browser.choose("group by", "model.variant")
    assert browser.value("document.title") == "s"
    assert browser.value("document.querySelectorAll('img:not([src^=\"data:\"])').length") == 0
    assert any(HOSTILE in text for text in texts(browser, "#groups .label"))


def column(browser: Chromium, title: str) -> list[str]:
    """Cells of a column of the table of all runs."""
    heads = texts(browser, "#all-runs th")
    (at,) = [at for at, head in enumerate(heads) if head.startswith(title)]
    return texts(browser, f"#all-runs tbody td:nth-child({at + 1})")


def test_the_table_sorts_hides_columns_and_links(browser: Chromium) -> None:
    assert len(column(browser, "seed")) == 16
    head = "#all-runs th button[title='val/accuracy']"
    browser.press(head)
    up = column(browser, "validation accuracy")
    browser.press(head)
    down = column(browser, "validation accuracy")
    numbers = [float(text) for text in up[:-1]]
    assert numbers == sorted(numbers)
    assert [float(text) for text in down[:-1]] == numbers[::-1]
    assert up[-1] == down[-1] == "—"  # the run without the metric stays last
    assert browser.value(f'document.querySelector("{head}").parentElement.ariaSort') == "descending"
    browser.press("#all-runs th button[title='optimizer.wd']")
    assert column(browser, "wd") == [t for t in ("0", "1e-5", "1e-4", "1e-3", "0.01") for _ in range(3)] + [
        "1"
    ]
    browser.press("#columns summary")
    browser.press("#columns label:nth-child(1) input")
    assert "wd" not in " ".join(texts(browser, "#all-runs th"))
    assert "../s/bad/" in browser.value(
        "[...document.querySelectorAll('#all-runs a')].map(a => a.getAttribute('href'))"
    )


def test_a_filter_keeps_the_runs_that_it_says(browser: Chromium) -> None:
    for text, runs in [
        ("wd > 1e-4 and seed == 0", 3),
        ("optimizer.wd<=1e-4 && not (seed=0 or seed = 2)", 3),
        ("val/accuracy >= 88 %", 3),
        ("val/accuracy >= 0.88", 3),
        ("wd in [0, 1e-5] and status != diverged", 6),
        ("DIVERGED", 1),
        ("'seed=1'", 5),
        ("folder ~ 'WD=0.01'", 3),
        ("val/accuracy == null", 1),
        ("status == 'it\\'s'", 0),
        ("", 16),
    ]:
        browser.value(f"page.setFilter({json.dumps(text)})")
        browser.settle()
        assert (text, texts(browser, ".error")) == (text, ["", ""])
        assert (text, len(column(browser, "seed"))) == (text, runs)


def test_a_filter_that_cannot_be_read_says_why_and_changes_nothing(browser: Chromium) -> None:
    field = "#all-runs input[type=search]"
    browser.write(field, "seed == 0")
    assert len(column(browser, "seed")) == 6
    for text, why in [
        ("seed ==", "a value is missing at the end"),
        ("(seed == 0", '")" is missing at the end'),
        ("lr > 1", "there is no column lr"),
        ("seed == 0 wd", '"and" or "or" is missing before "wd"'),
        ("seed ; 1", 'cannot read "; 1"'),
        ("constructor == 1", "there is no column constructor"),
    ]:
        browser.write(field, text)
        assert texts(browser, "#all-runs .error") == [why]
        assert len(column(browser, "seed")) == 6
    browser.write(field, "")
    assert len(column(browser, "seed")) == 16


def test_a_drag_along_an_axis_of_the_parallel_coordinates_filters(browser: Chromium) -> None:
    paths = "document.querySelectorAll('#parallel g[aria-label=line] path').length"
    assert browser.value(paths) == 15
    left, top, width, height = browser.place("#parallel")
    browser.drag((left + width - 80, top + 40), (left + width - 80, top + 0.4 * height))
    assert browser.value("page.filter").startswith("val/accuracy >= ")
    assert 0 < browser.value(paths) < 15
    browser.value("document.querySelector('#parallel').dispatchEvent(new MouseEvent('dblclick'))")
    browser.settle()
    assert browser.value(paths) == 15


def test_the_heat_map_has_the_means_of_two_keys(browser: Chromium) -> None:
    browser.choose("rows", "optimizer.wd")
    browser.choose("columns", "seed")
    means = texts(browser, "#heat g[aria-label=text] text")
    assert sorted(means)[:4] == ["80.00", "80.10", "80.20", "82.00"]
    assert texts(browser, "#heat g[aria-label='y-axis tick label'] text") == [
        "0",
        "1e-5",
        "1e-4",
        "1e-3",
        "0.01",
        "1",
    ]


def test_curves_have_other_axes_and_smoothing(browser: Chromium) -> None:
    label = f"{CURVE} g[aria-label='x-axis label']"
    for axis, name in (("images", "images"), ("seconds", "seconds of training"), ("step", "step")):
        browser.choose("x axis", axis)
        assert name in texts(browser, label)[0]
    path = f"document.querySelector('{CURVE} g[aria-label=line] path').getAttribute('d')"
    before = browser.value(path)
    browser.choose("y axis", "log")
    assert browser.value(path) != before
    browser.choose("y axis", "linear")
    browser.value(
        "const slider = document.querySelector('input[type=range]'); slider.value = 0.9; "
        "slider.dispatchEvent(new Event('input'))"
    )
    browser.settle()
    assert browser.value(path) != before
    browser.choose("lines", "runs")
    assert lines(browser) == 16
    browser.choose("colour by", "val/accuracy")
    assert lines(browser) == 16


def test_the_confusion_matrix_and_the_wrong_images_of_a_run(browser: Chromium) -> None:
    browser.place("#test-images")
    counts = texts(browser, "#test-images g[aria-label=text] text")
    assert sorted(map(int, counts)) == [10, 30, 40]
    (caption,) = texts(browser, "#test-images figcaption")
    assert caption == f"{HOSTILE}, not cat (75.0 %)"
    assert f"{HOSTILE} taken for cat (10)" in " ".join(texts(browser, "#test-images .note"))
    assert browser.value("document.querySelector('#test-images img').naturalWidth") == 8
    browser.value("page.setFilter('wd == 0')")
    browser.settle()
    assert texts(browser, "#test-images figcaption") == []
