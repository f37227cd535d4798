"""Write a file atomically: a reader sees either the old content or the new, never a part."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

UNFINISHED = re.compile(r"\..+\.\d+\.[0-9a-f]{4}")
"""Temporary names of `write_atomically`; a killed process leaves such a file behind."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a temporary file in the same folder, flush it to the disk, then rename it to `path`."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(2)}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove temporary files that killed writers left; call it only if no other process writes there."""
    for path in folder.glob(".*"):
        if UNFINISHED.fullmatch(path.name):
            path.unlink(missing_ok=True)
