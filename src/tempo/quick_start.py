"""Spare Hydra the greater part of what it does before it answers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import omegaconf._utils
import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra.core.object_type import ObjectType


def list_options_once() -> None:
    """Let Hydra look once for the options of a group.

    For the help, Hydra 1.3 asks for those of each of the hundred groups several times, and makes a deep copy
    of its repository and a parser for each question, in case overrides add to the search path.
    """
    ask = ConfigLoaderImpl.get_group_options

    def get_group_options(
        self: ConfigLoaderImpl,
        group_name: str,
        results_filter: ObjectType | None = ObjectType.CONFIG,
        config_name: str | None = None,
        overrides: list[str] | None = None,
    ) -> list[str]:
        if config_name is not None or overrides:
            return ask(self, group_name, results_filter, config_name, overrides)
        known = self.__dict__.setdefault("_options", {})
        if (group_name, results_filter) not in known:
            known[group_name, results_filter] = self.repository.get_group_options(group_name, results_filter)
        return list(known[group_name, results_filter])

    ConfigLoaderImpl.get_group_options = get_group_options  # type: ignore[method-assign]


def parse_yaml_in_c() -> None:
    """Let OmegaConf read files with libyaml's parser, where PyYAML was built with it: ten times as quick.

    Tags, values and the check for keys that stand twice remain OmegaConf's: its loader is derived anew, and
    once instead of for each file, from a class that only parses in another way.
    """
    if not yaml.__with_libyaml__:
        return
    in_python = yaml.SafeLoader
    yaml.SafeLoader = yaml.CSafeLoader  # type: ignore[misc,assignment]
    try:
        loader = omegaconf._utils.get_yaml_loader()
    finally:
        yaml.SafeLoader = in_python  # type: ignore[misc]
    omegaconf._utils.get_yaml_loader = lambda: loader


def compose_once(conf: Path) -> None:
    """Let Hydra compose a run's configuration once.

    Hydra 1.3 composes it twice, the first time only to see whether it sets `hydra.mode`. Where neither the
    command line nor a file of `conf` names that key, and no other folder is searched, it does not.
    """
    ask = Hydra.get_mode
    usual = {"pkg://hydra.conf", str(conf), "structured://", None}

    def get_mode(self: Hydra, config_name: str | None, overrides: list[str]) -> Any:
        searched = {each.path for each in self.config_loader.get_search_path().get_path()}
        named = any(re.search(r"hydra\W*(mode|searchpath)", each) for each in overrides)
        if named or searched - usual or any(_names_a_mode(path) for path in conf.rglob("*.yaml")):
            return ask(self, config_name, overrides)
        return None

    Hydra.get_mode = get_mode  # type: ignore[method-assign]


def _names_a_mode(path: Path) -> bool:
    return re.search(rb"^\s*(hydra\.)?mode:|searchpath", path.read_bytes(), re.MULTILINE) is not None
