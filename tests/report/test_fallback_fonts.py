"""Text that the default font lacks: another font of the machine draws it, or one line says that none does."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib import font_manager

from tempo.report import fallback_fonts
from tempo.report.run_figures import draw_confusion

NAMES = ["cat", "猫", "🐶"]


@pytest.fixture
def no_other_font(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with matplotlib's own fonts only."""
    own = [entry for entry in font_manager.fontManager.ttflist if entry.name == "DejaVu Sans"]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)


def test_no_font_is_opened_for_what_the_default_one_has(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    characters = fallback_fonts._characters
    monkeypatch.setattr(fallback_fonts, "_characters", lambda file: opened.append(file) or characters(file))
    fonts = fallback_fonts.fonts_for(["café", "$x_1$", "Ωmega"])
    assert (fonts.families, fonts.missing, len(opened)) == (("DejaVu Sans",), frozenset(), 1)


def test_a_font_that_has_the_character_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default font without its letters stands for one without Chinese."""
    default, characters = font_manager.findfont("DejaVu Sans"), fallback_fonts._characters
    monkeypatch.setattr(
        fallback_fonts, "_characters", lambda file: set() if file == default else characters(file)
    )
    fonts = fallback_fonts.fonts_for(["cat"])
    assert len(fonts.families) == 2
    assert not fonts.missing
    assert set("cat") <= characters(font_manager.findfont(fonts.families[1]))


@pytest.mark.usefixtures("no_other_font")
def test_one_line_instead_of_a_warning_per_character(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        draw_confusion(np.eye(3, dtype=int), NAMES, tmp_path / "confusion.png", "run 猫, seed 0")
    assert (tmp_path / "confusion.png").stat().st_size > 1000
    (line,) = [record.getMessage() for record in caplog.records]
    assert "2 of 3 class names" in line


@pytest.mark.usefixtures("no_other_font")
def test_names_that_cannot_be_drawn_become_numbers() -> None:
    fonts = fallback_fonts.fonts_for(NAMES)
    assert fonts.labels([*NAMES, "half \udce9"]) == ["cat", "class 1", "class 2", "half \udce9"]
    assert fallback_fonts.fonts_for(["\udce9"]).labels(["\udce9"]) == ["class 0"]
    assert fonts.drawable("run 猫") == "run ?"
