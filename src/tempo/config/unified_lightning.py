"""Let code that imports the package `lightning` use `pytorch_lightning`, on which tempo runs.

Lightning is published under both names. A class of one is none of the other, so a module that derives from
`lightning.LightningModule` could not be trained by the trainer of `pytorch_lightning`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType

_NAME = "lightning"
_HOMES = {"lightning.pytorch": "pytorch_lightning", "lightning.fabric": "lightning_fabric"}


class UnifiedLightning(MetaPathFinder, Loader):
    """Finds `lightning`, `lightning.pytorch.*` and `lightning.fabric.*` in the packages that tempo has."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for the names of the unified package."""
        is_ours = fullname == _NAME or _real_name(fullname) is not None
        return spec_from_loader(fullname, self, is_package=True) if is_ours else None

    def exec_module(self, module: ModuleType) -> None:
        """Put the real module in the place of the new one; fill `lightning` itself with its public names."""
        if (real := _real_name(module.__name__)) is not None:
            sys.modules[module.__name__] = importlib.import_module(real)
            return
        for home in reversed(_HOMES.values()):
            package = importlib.import_module(home)
            vars(module).update({name: getattr(package, name) for name in package.__all__})
        vars(module)["__version__"] = importlib.import_module("pytorch_lightning").__version__


def _real_name(name: str) -> str | None:
    for ours, real in _HOMES.items():
        if name == ours or name.startswith(f"{ours}."):
            return f"{real}{name.removeprefix(ours)}"
    return None


def use_one_lightning() -> None:
    """Let later imports of `lightning` find `pytorch_lightning`, also where both are installed."""
    if _NAME not in sys.modules and not any(isinstance(finder, UnifiedLightning) for finder in sys.meta_path):
        sys.meta_path.insert(0, UnifiedLightning())
