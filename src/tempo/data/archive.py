"""Official archives on disk: downloaded if missing, verified before anything reads them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from torchvision.datasets.utils import download_url

from tempo.errors import UserError

# A network that drops packets must not block the start for ever.
_STALL_SECONDS = 30.0
MOST_BYTES = 1 << 30
"""Five times the largest archive: a larger file is another one, and is not read into memory to find out."""


def verified_bytes(path: Path, md5: str) -> bytes:
    """Return a file's content; UserError if it cannot be read or does not have the published MD5."""
    return check(read_bytes(path), md5, path)


def read_bytes(path: Path) -> bytes:
    """Return a file's content; UserError if it is not a file, is too large or cannot be read."""
    try:
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            raise corrupt(path, f"it is not a file of at most {MOST_BYTES >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions") from error


def check(content: bytes, md5: str, path: Path) -> bytes:
    """Return `content`, read from `path`, if it has the published MD5; UserError otherwise."""
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise corrupt(path, f"its checksum is not the published {md5}")
    return content


def corrupt(path: Path, reason: str) -> UserError:
    """Return the error for a file whose content is wrong."""
    return UserError(
        f"{path} is truncated or corrupt ({reason}); delete it to download it again at the "
        "next start (data.download=true), or copy an intact file there"
    )


def fetch(path: Path, md5: str, urls: Sequence[str], *, download: bool, name: str, root: Path) -> None:
    """Download `path` from the first of `urls` that has it; it appears complete and verified or not at all.

    Raises:
        UserError: `download` is false, no address could be read, or `root` cannot be written.
    """
    reason = "data.download=false"
    made = [folder for folder in path.parents if not folder.exists()]
    if download:
        # Two processes may download at once: each writes its own file, and the last one renamed stays.
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        for url in urls:
            try:
                _download(url, partial, md5)
                partial.replace(path)
                return
            except (OSError, RuntimeError) as error:  # URLError and timeouts are OSErrors
                reason = f"the download failed: {error}"
            finally:
                partial.unlink(missing_ok=True)
        # Leave no folders of a misspelt root behind; another process may be using them by now.
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()
    raise UserError(
        f"{name} is not in {root}: {path.relative_to(root)} is missing, and {reason}; put the official file "
        "there, point TEMPO_DATA or data.root to a folder that has it, or use data=digits (no network)"
    )


def _download(url: str, partial: Path, md5: str) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_STALL_SECONDS)
    try:
        download_url(url, str(partial.parent), filename=partial.name, md5=md5)
    finally:
        socket.setdefaulttimeout(before)
