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
        super().__init__(printable(" ".join(message.split())))


def printable(text: str) -> str:
    """Text for a terminal: what would move its cursor is spelt out, what is endless is cut in the middle."""
    spelt = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
    return spelt if len(spelt) <= LONGEST_LINE else f"{spelt[: LONGEST_LINE - 505]} ... {spelt[-500:]}"


def nearest(wrong: str, options: Iterable[str]) -> str:
    """`" Did you mean 'x'?"` for the option closest to `wrong`, or an empty string."""
    found = difflib.get_close_matches(wrong, list(options), n=1, cutoff=0.5)
    return f" Did you mean '{found[0]}'?" if found else ""
