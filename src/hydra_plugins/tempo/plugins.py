"""Names of the sweepers and launchers for Hydra, whose code is imported when one of them is used.

At each start, even for --help, Hydra imports every module here whose name does not begin with `_`.
"""

from __future__ import annotations

import importlib
from typing import Any

from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper


class _Late:
    """Called, it makes an object of the class of the same name in the module `home` of tempo.sweep."""

    home: str

    def __new__(cls, **settings: Any) -> Any:
        module = importlib.import_module(f"tempo.sweep.{cls.home}")
        return getattr(module, cls.__name__)(**settings)

    def _absent(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


class GridSweeper(_Late, Sweeper):
    """The default sweeper: a grid in a folder that stays the same."""

    home = "grid_sweeper"
    setup = sweep = _Late._absent  # Hydra registers no class with abstract methods


class SearchSweeper(_Late, Sweeper):
    """`hydra/sweeper=search`: points drawn by Optuna."""

    home = "search.search_sweeper"
    setup = sweep = _Late._absent


class InProcessLauncher(_Late, Launcher):
    """The default launcher: one job after the other in the process of the sweep."""

    home = "launcher.in_process_launcher"
    setup = launch = _Late._absent


class LocalLauncher(_Late, Launcher):
    """`hydra/launcher=local`: several processes on this machine."""

    home = "launcher.local_launcher"
    setup = launch = _Late._absent


class SlurmLauncher(_Late, Launcher):
    """`hydra/launcher=slurm`: job arrays of a SLURM cluster."""

    home = "launcher.slurm_launcher"
    setup = launch = _Late._absent


class RayLauncher(_Late, Launcher):
    """`hydra/launcher=ray`: tasks of Ray, on this machine or a cluster."""

    home = "launcher.ray_launcher"
    setup = launch = _Late._absent
