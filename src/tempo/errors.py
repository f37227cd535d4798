"""The one kind of error that a user can cause, and the exit code of a run that the user has stopped."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from hydra.errors import CompactHydraException

INTERRUPTED_CODE = 130
"""The state is saved and the record says so; the shell's own code for an end by Ctrl-C."""


LONGEST_LINE = 2000


class UserError(CompactHydraException):
    """An error whose message is one line: the value, why it cannot work, what mends it.

    Scripts print it without a traceback and exit with code 1.
    """

    def __init__(self, message: str) -> None:
        line = printable(" ".join(message.split()))
        super().__init__(line if len(line) <= LONGEST_LINE else f"{line[:1500]} ... {line[-400:]}")


def printable(text: str) -> str:
    """Return text for a terminal, with characters that could move its cursor escaped."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def nearest(wrong: object, options: Iterable[str]) -> str:
    """`" Did you mean 'x'?"` for the option closest to `wrong`, or an empty string."""
    found = difflib.get_close_matches(str(wrong), list(options), n=1, cutoff=0.6)
    return f" Did you mean '{found[0]}'?" if found else ""
