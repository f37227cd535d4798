"""Spare `--help` the greater part of its time."""

from __future__ import annotations

import copy
from typing import Any

from hydra._internal.config_repository import ConfigRepository


def share_sources() -> None:
    """Let Hydra list the options of a group without a deep copy of its whole repository.

    Hydra 1.3 makes one for each of the hundred groups that the help names, so that giving the copy other
    sources leaves the repository's own alone. A shallow copy does that too: the list of sources is replaced,
    not changed, and a source has no state but its path.
    """

    def shallow(repository: ConfigRepository, memo: dict[int, Any]) -> ConfigRepository:
        return copy.copy(repository)

    ConfigRepository.__deepcopy__ = shallow  # type: ignore[attr-defined]
