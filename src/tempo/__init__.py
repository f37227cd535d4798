"""tempo: the pace of training (learning rate, momentum, weight decay, batch size).

From Python, `tempo.train(overrides)` trains a run, and `tempo.load(folder)` loads what a run has trained.
"""

from __future__ import annotations

import importlib
from typing import Any

_LAZY = {
    "train": ("tempo.run.notebook", "train"),
    "load": ("tempo.run.load_run", "load_run"),
}
"""Names of this package: importing torch for them takes seconds, so it waits until they are used."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'tempo' has no attribute {name!r}")
    module, function = _LAZY[name]
    return getattr(importlib.import_module(module), function)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
