"""Count SIGINT (Ctrl-C) and SIGTERM: the first asks to stop, a later Ctrl-C stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any


class StopSignals:
    """Note SIGINT and SIGTERM, instead of their usual effect, while this context is entered.

    `on_signal` is called within the handler and may raise. Python allows handlers only in its main thread, so
    in another thread this context does nothing.
    """

    def __init__(self, on_signal: Callable[[int], None] = lambda number: None) -> None:
        self.heard: list[int] = []
        self._on_signal = on_signal
        self._before: dict[int, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether to stop as soon as the state is saved."""
        return bool(self.heard)

    @property
    def insisted(self) -> bool:
        """Whether to stop at once. A second SIGTERM is not enough: some systems repeat it."""
        return signal.SIGINT in self.heard[1:]

    def __enter__(self) -> StopSignals:
        """Start to listen."""
        self.heard.clear()
        self.listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the handlers that were there before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def listen(self) -> None:
        """Take the signals, even if a library has set its own handlers in the meantime."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # The first call counts: at a later one the handler may be our own.
                self._before.setdefault(number, signal.getsignal(number))
                signal.signal(number, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.heard.append(number)
        self._on_signal(number)
