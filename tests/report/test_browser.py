"""The page in a real browser, with a real mouse: hover, toggle, zoom, filter, dark, a phone's width."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tempo.report.write_report import build_report
from tests.report.chromium import NAMES, Chromium, installed
from tests.report.example_runs import weight_decay_sweep, write_run

DECAYS = [0.0, 1e-5, 1e-4, 1e-3, 1e-2]
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
    return build_report([folder / "s"], folder / "out")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    program = installed()
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed (.ci/browser installs one)")
    with Chromium(program, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


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
