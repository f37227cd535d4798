"""Lock a folder so that only one run or sweep at a time writes to it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import TracebackType

from tempo.errors import UserError

if sys.platform != "win32":
    import fcntl

LOCK_FILE = ".lock"
_PATIENCE_SECONDS = 15.0
"""Workers of a DataLoader look every five seconds whether the process that forked them still lives."""


class FolderLock:
    """Lock a folder until its process and all forks have exited.

    Forked jobs inherit the lock, so no other sweep can start there while a job of a killed sweep still
    writes. Windows has no such lock, so this does nothing there.
    """

    def __init__(self, folder: Path, *, what: str, remedy: str) -> None:
        self.path = folder / LOCK_FILE
        self.what, self.remedy = what, remedy
        self._descriptor = -1

    def __enter__(self) -> FolderLock:
        """Take the lock; raise UserError with the id of the process that holds it."""
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not self._take():
            holder = self._holder()
            # A dead holder's forks may need a moment to exit.
            if _is_alive(holder) or time.monotonic() > deadline:
                os.close(self._descriptor)
                raise UserError(
                    f"{self.what} is already running in {self.path.parent} (process {holder}); wait for it, "
                    f"or {self.remedy}"
                )
            time.sleep(0.1)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the lock."""
        os.close(self._descriptor)

    def _take(self) -> bool:
        if sys.platform == "win32":
            return True
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _holder(self) -> int:
        text = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip()
        return int(text) if text.isdigit() else 0


def _is_alive(process: int) -> bool:
    if process <= 0:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the process exists but belongs to another user
        return True
    return True
