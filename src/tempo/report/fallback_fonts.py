"""Find fonts for text that the default font of figures cannot draw, such as Chinese or emoji."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib import font_manager

log = logging.getLogger(__name__)

_DEFAULT = "DejaVu Sans"
"""Comes with matplotlib."""
_WITHOUT_SHAPES = ("Last Resort High-Efficiency", "Last Resort", "LastResort", "Adobe Blank")
"""Fonts that have every character, but as the same box or as nothing."""


@dataclass(frozen=True)
class Fonts:
    """Font families in the order in which a character is looked up, and characters that none has."""

    families: tuple[str, ...]
    missing: frozenset[str]

    def drawable(self, text: str) -> str:
        """Return the text with `?` for each character that no font has."""
        return "".join("?" if character in self.missing else character for character in text)

    def labels(self, names: Sequence[str]) -> list[str]:
        """Return the names of classes, with the number of the class for a name that cannot be drawn."""
        odd = {index for index, name in enumerate(names) if self.missing & set(name)}
        if odd:
            log.warning(
                "no font of this machine can draw %d of %d class names: figures show their numbers, from 0 "
                "as in run.json (data.class_names)",
                len(odd),
                len(names),
            )
        return [f"class {index}" if index in odd else name for index, name in enumerate(names)]


def fonts_for(texts: Sequence[str]) -> Fonts:
    """Return fonts of this machine that together draw as many characters of the texts as possible.

    Other fonts are only opened if the default one lacks a character.
    """
    missing = {character for character in "".join(texts) if not character.isspace()}
    missing -= _characters(font_manager.findfont(_DEFAULT))
    families = [_DEFAULT, *_WITHOUT_SHAPES]
    for family, file in sorted({(entry.name, entry.fname) for entry in font_manager.fontManager.ttflist}):
        if not missing:
            break
        # A family's other files, such as its bold one, may have fewer characters.
        # A list, because a name with a hyphen would be parsed as a pattern.
        named = font_manager.FontProperties(family=[family])
        if family not in families and font_manager.findfont(named) == file:
            found = missing & _characters(file)
            families += [family] if found else []
            missing -= found
    drawing = tuple(family for family in families if family not in _WITHOUT_SHAPES)
    return Fonts(drawing, frozenset(missing))


def _characters(file: str) -> set[str]:
    """Return the characters that a font file has; none if matplotlib cannot read it."""
    try:
        return set(map(chr, font_manager.get_font(file).get_charmap()))
    except (OSError, RuntimeError):  # a font of coloured pictures, which are no outlines
        return set()
