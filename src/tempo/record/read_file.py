"""Read a file that may come from elsewhere: only a regular file, and never more than a limit of bytes."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

MOST_BYTES = 64 << 20
"""Limit for a record or a list of jobs; the largest, of a long search, has a tenth of it."""
MOST_TABLE_BYTES = 1 << 30
"""Limit for a metrics.csv: some ten million rows."""


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; a pipe would wait forever, and a device might never end.

    Raises:
        OSError: the file cannot be opened, or is a folder, a pipe, a socket or a device.
    """
    # Without O_NONBLOCK, opening a pipe waits for its writer. Windows has neither.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_start(path: Path, size: int) -> bytes:
    """Return the first `size` bytes of a regular file, or all of it if it is shorter."""
    with open_regular(path) as file:
        return file.read(size)


def read_bytes(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """Return a regular file's content; OSError as for `open_regular`, or if it has more than `most_bytes`."""
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size <= most_bytes:
            content = file.read(most_bytes + 1)  # the size may be wrong: files of the system have 0
            if len(content) <= most_bytes:
                return content
    raise OSError(errno.EFBIG, f"it has more than {most_bytes >> 20} MiB", str(path))


def read_text(path: Path, most_bytes: int = MOST_BYTES, errors: str = "strict") -> str:
    r"""Return a regular file's text in UTF-8, with `\n` at the ends of lines; see `read_bytes`."""
    text = read_bytes(path, most_bytes).decode("utf-8", errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")
