"""What the tests of the archives share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

from tempo.data.images import ImageData

Source = Callable[..., tuple[ImageData, ImageData]]


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def tree(root: Path) -> dict[str, tuple[int, int]]:
    """Every file with its size and time."""
    return {
        str(path.relative_to(root)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in root.rglob("*")
    }


def assert_ways_out(message: str, root: Path, file: str) -> None:
    assert "\n" not in message
    for part in (str(root), file, "TEMPO_DATA", "data.root", "data=digits"):
        assert part in message


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, *arguments: object) -> None:
        pass
