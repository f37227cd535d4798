"""Standard streams that cannot end a run if a reader goes away, as with `| head`, or if they are closed."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import threading
from typing import TextIO

log = logging.getLogger(__name__)

_NO_READER = (errno.EPIPE, errno.EIO, errno.ENXIO, errno.EBADF, errno.ESTALE)
"""The other end of the pipe is closed; the terminal, or the server of the file, has gone."""
_NAMES = {1: "stdout", 2: "stderr"}


class _Descriptor(io.FileIO):
    """Writes to a descriptor; once its reader has gone, everything for it goes to the null device."""

    def write(self, data: object) -> int:
        """Write and return the number of bytes; a full disk loses this text, not the run."""
        assert isinstance(data, (bytes, bytearray, memoryview))
        try:
            return super().write(data)
        except OSError as error:
            if error.errno in _NO_READER:
                _connect_to_null(self.fileno())
                if logging.root.handlers:  # else nothing has begun
                    # In a thread: this one may hold the lock of the handler, or of the stream, that logs.
                    line = "%s has lost its reader (%s); the run goes on without these lines"
                    values = (_NAMES.get(self.fileno(), "output"), error.strerror)
                    threading.Thread(target=log.warning, args=(line, *values), daemon=True).start()
            return len(data)


def keep_streams_open() -> None:
    """Make standard output and standard error outlive their readers; call it before anything is logged."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed, as by `>&-`: the next file that is opened would become it
            _connect_to_null(number)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = _outliving(sys.stdout, 1), _outliving(sys.stderr, 2)


def _outliving(stream: TextIO | None, number: int) -> TextIO:
    """Return a stream that writes to the descriptor `number`, like `stream` if that does."""
    if stream is None:
        stream = open(number, "w", closefd=False)  # noqa: SIM115
    try:
        is_other = stream.fileno() != number or not isinstance(stream, io.TextIOWrapper)
    except (OSError, ValueError):  # a stream in memory, as in a notebook or a test
        is_other = True
    if is_other or isinstance(getattr(stream.buffer, "raw", stream.buffer), _Descriptor):
        return stream
    assert isinstance(stream, io.TextIOWrapper)
    stream.flush()
    raw = _Descriptor(number, "w", closefd=False)
    return io.TextIOWrapper(
        raw if stream.write_through else io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",  # an ASCII locale cannot write every name of a class or a file
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _connect_to_null(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)
    os.set_inheritable(number, True)
