"""Hydra's repositories, copied without their sources."""

from __future__ import annotations

import copy

from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra.core.plugins import Plugins

from tempo.paths import ROOT
from tempo.quick_help import share_sources


def search_path(*paths: str) -> ConfigSearchPathImpl:
    path = ConfigSearchPathImpl()
    for number, each in enumerate(paths):
        path.append(f"provider{number}", each)
    return path


def test_other_sources_of_a_copy_leave_the_repository_alone() -> None:
    Plugins.instance()  # knows the kinds of sources
    share_sources()
    ours = f"file://{ROOT}/conf"
    repository = ConfigRepository(search_path(ours))
    options = repository.get_group_options("scheduler")
    assert "onecycle" in options
    caching = CachingConfigRepository(repository)
    assert caching.get_group_options("scheduler") == options
    assert [each.path for each in caching.get_sources()] == [each.path for each in repository.get_sources()]
    caching.initialize_sources(search_path("pkg://hydra.conf"))
    assert caching.get_group_options("scheduler") == []
    assert repository.get_group_options("scheduler") == options
    assert copy.deepcopy(repository).sources[0] is repository.sources[0]
