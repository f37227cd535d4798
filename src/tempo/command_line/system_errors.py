"""One-line messages for system errors: a full disk, a folder that cannot be written, lack of memory."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

from tempo.errors import UserError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
NOT_WRITABLE = (
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.ENOENT,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EINVAL,
)


def task_line(error: Exception, folder: Path | None) -> str | None:
    """Return the line for a task's error that the user can correct; None for a bug."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError):
        return storage_line(error, folder)
    if is_memory_error(error):
        return (
            f"not enough memory ({_first_line(error)}); set a smaller data.total_batch_size, a larger "
            "trainer.accumulate, or use a smaller network or images"
        )
    return None


def is_memory_error(error: Exception) -> bool:
    """Whether memory ran out: torch raises a RuntimeError on a CPU, and a subclass of it on a GPU."""
    is_torchs = re.search(r"can't allocate memory|out of memory", _first_line(error), re.IGNORECASE)
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(is_torchs))


@contextlib.contextmanager
def enough_memory(what: str, remedy: str) -> Iterator[None]:
    """Raise UserError if memory runs out while `what` is built: a smaller batch would not help there."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_memory_error(error):
            raise
        raise UserError(f"not enough memory for {what} ({_first_line(error)}); {remedy}") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]


def storage_line(error: OSError, folder: Path | None) -> str | None:
    """Return the line for a full disk or a run's folder that cannot be used; None for any other error."""
    has_path = isinstance(error.filename, (str, bytes)) and error.filename
    path = Path(os.fsdecode(error.filename)).absolute() if has_path else None
    # The error may concern a parent of the run's folder that could not be created.
    ours = folder and path and (_is_within(path, folder) or _is_within(folder, path))
    elsewhere = "choose another folder with hydra.run.dir=<folder>"
    where = f"{path}: " if path else ""
    if error.errno in NO_ROOM:
        return f"{where}{error.strerror}; make room" + (f", or {elsewhere}" if ours or not path else "")
    return f"{where}{error.strerror}; {elsewhere}" if ours and error.errno in NOT_WRITABLE else None


def thread_error(found: threading.ExceptHookArgs) -> None:
    """Print a thread's error, except a full disk or a removed folder, which the run itself reports."""
    if not (isinstance(found.exc_value, OSError) and found.exc_value.errno in (*NO_ROOM, errno.ENOENT)):
        threading.__excepthook__(found)


def _is_within(path: Path, folder: Path) -> bool:
    """Whether a path is in a folder, as written or after following links."""
    try:
        return path.is_relative_to(folder) or path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a link to itself
        return False
