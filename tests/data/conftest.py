"""What the tests of archives share: folders, a server, checksums."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

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


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty folder for data sets."""
    path = tmp_path / "data"
    path.mkdir()
    return path


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder, and the address on this machine that serves it."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()
