"""Names of the sweepers and launchers for Hydra, imported when one is used; and the conf/ of a project.

At each start, even for --help, Hydra imports every module here whose name does not begin with `_`.
"""

from __future__ import annotations

import importlib
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.plugins.launcher import Launcher
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.plugins.sweeper import Sweeper

from tempo.paths import CONF, conf_folders


def _late(plugin: type, name: str, home: str) -> type:
    """Return a class that, when called, makes an object of the class of its name in `tempo.sweep.<home>`."""

    def make(cls: type, **settings: Any) -> Any:
        return getattr(importlib.import_module(f"tempo.sweep.{home}"), name)(**settings)

    def absent(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    methods = dict.fromkeys(("setup", "sweep", "launch"), absent)  # Hydra registers no abstract class
    return type(name, (plugin,), {"__new__": make, "__module__": __name__, **methods})


GridSweeper = _late(Sweeper, "GridSweeper", "grid_sweeper")
SearchSweeper = _late(Sweeper, "SearchSweeper", "search.search_sweeper")
InProcessLauncher = _late(Launcher, "InProcessLauncher", "launcher.in_process_launcher")
LocalLauncher = _late(Launcher, "LocalLauncher", "launcher.local_launcher")
SlurmLauncher = _late(Launcher, "SlurmLauncher", "launcher.slurm_launcher")
RayLauncher = _late(Launcher, "RayLauncher", "launcher.ray_launcher")


class ProjectSearchPath(SearchPathPlugin):
    """Lets Hydra search the conf/ of a project outside the repository before tempo's own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Put the project's conf/ in front of tempo's."""
        for folder in conf_folders():
            if folder != CONF:
                search_path.prepend("project", f"file://{folder}", SearchPathQuery("main", None))
