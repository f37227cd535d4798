"""Spare Hydra the greater part of what it does before it answers."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

_ours: set[Callable] = set()
"""What `replace` has put in: once is enough for a process."""


def spare_hydra(conf: Path) -> None:
    """Replace what Hydra does several times, or slowly, for the files in `conf`; no answer changes."""
    list_options_once()
    parse_yaml_in_c()
    compose_once(conf)
    look_up_files_directly()
    map_choices_when_asked()


def list_options_once() -> None:
    """Let Hydra look once for the options of a group.

    For the help, Hydra 1.3 asks for those of each of the hundred groups several times, and makes a deep copy
    of its repository and a parser for each question, in case overrides add to the search path.
    """

    def quick(ask: Callable) -> Callable:
        def get_group_options(
            self: Any,
            group_name: str,
            results_filter: ObjectType | None = ObjectType.CONFIG,
            config_name: str | None = None,
            overrides: list[str] | None = None,
        ) -> list[str]:
            if config_name is not None or overrides:
                return ask(self, group_name, results_filter, config_name, overrides)
            known = self.__dict__.setdefault("_options", {})
            if (group_name, results_filter) not in known:
                options = self.repository.get_group_options(group_name, results_filter)
                known[group_name, results_filter] = options
            return list(known[group_name, results_filter])

        return get_group_options

    replace(
        "hydra._internal.config_loader_impl:ConfigLoaderImpl.get_group_options",
        ["self", "group_name", "results_filter", "config_name", "overrides"],
        quick,
    )


def parse_yaml_in_c() -> None:
    """Let OmegaConf read files with libyaml's parser, where PyYAML was built with it: ten times as quick.

    Tags, values and the check for keys that stand twice remain OmegaConf's: its loader is derived anew, and
    once instead of for each file, from a class that only parses in another way.
    """

    def quick(derive: Callable) -> Callable:
        in_python = yaml.SafeLoader
        yaml.SafeLoader = yaml.CSafeLoader  # type: ignore[misc,assignment]
        try:
            loader = derive()
        finally:
            yaml.SafeLoader = in_python  # type: ignore[misc]
        return lambda: loader

    if yaml.__with_libyaml__:
        replace("omegaconf._utils:get_yaml_loader", [], quick)


def compose_once(conf: Path) -> None:
    """Let Hydra compose a run's configuration once.

    Hydra 1.3 composes it twice, the first time only to see whether it sets `hydra.mode`. Where neither the
    command line nor a file of `conf` names that key, and no other folder is searched, it does not.
    """
    usual = {"pkg://hydra.conf", str(conf), "structured://", None}

    def quick(ask: Callable) -> Callable:
        def get_mode(self: Any, config_name: str | None, overrides: list[str]) -> Any:
            searched = {each.path for each in self.config_loader.get_search_path().get_path()}
            named = any(re.search(r"hydra\W*(mode|searchpath)", each) for each in overrides)
            if named or searched - usual or any(map(_names_a_mode, _files_of(conf))):
                return ask(self, config_name, overrides)
            return None

        return get_mode

    replace("hydra._internal.hydra:Hydra.get_mode", ["self", "config_name", "overrides"], quick)


def _files_of(conf: Path) -> Iterator[str]:
    for folder, _, names in os.walk(conf):
        yield from (os.path.join(folder, name) for name in names if name.endswith(".yaml"))  # noqa: PTH118


def _names_a_mode(path: str) -> bool:
    with open(path, "rb") as file:  # noqa: PTH123 - a hundred files: Path takes as long again
        text = file.read()
    if b"mode:" not in text and b"searchpath" not in text:
        return False
    return re.search(rb"^\s*(hydra\.)?mode:|searchpath", text, re.MULTILINE) is not None


def look_up_files_directly() -> None:
    """Let Hydra ask the system what a path is; it follows every link by itself first, as the system does."""
    source = "hydra._internal.core_plugins.file_config_source:FileConfigSource"
    Plugins.instance()  # its scan defines the class anew

    def is_group(self: Any, config_path: str) -> bool:
        return os.path.isdir(os.path.join(self.path, config_path))  # noqa: PTH112, PTH118 - a tenth of Path

    def is_config(self: Any, config_path: str) -> bool:
        name = self._normalize_file_name(config_path)
        return os.path.isfile(os.path.join(self.path, name))  # noqa: PTH113, PTH118

    replace(f"{source}.is_group", ["self", "config_path"], lambda _: is_group)
    replace(f"{source}.is_config", ["self", "config_path"], lambda _: is_config)


def map_choices_when_asked() -> None:
    """Spare Hydra a map of all choices for each file, where no entry of its defaults list refers to one."""

    def quick(ask: Callable) -> Callable:
        def create(overrides: Any, defaults_list: list[Any], self_added: bool) -> Any:
            if any("${" in str(value) for each in defaults_list for value in vars(each).values()):
                return ask(overrides, defaults_list, self_added)
            return OmegaConf.create()

        return create

    name = "hydra._internal.defaults_list:_create_interpolation_map"
    replace(name, ["overrides", "defaults_list", "self_added"], quick)


def replace(path: str, parameters: Sequence[str], quick: Callable[[Callable], Callable]) -> None:
    """Put `quick(original)` in the place of a private function, `module:name` or `module:class.name`.

    Private names may change with any version. A function that is not there, or that takes other parameters,
    is left alone; and where `quick` or what it returned misses something else (AttributeError, TypeError),
    the original answers.
    """
    module, _, names = path.partition(":")
    *outer, name = names.split(".")
    with suppress(ImportError, AttributeError, KeyError, TypeError, ValueError):
        owner: Any = importlib.import_module(module)
        for each in outer:
            owner = getattr(owner, each)
        original = vars(owner)[name]
        if list(inspect.signature(original).parameters) == list(parameters) and original not in _ours:
            setattr(owner, name, _with_fallback(quick(original), original))


def _with_fallback(quick: Callable, original: Callable) -> Callable:
    @functools.wraps(original)
    def answer(*args: Any, **kwargs: Any) -> Any:
        try:
            return quick(*args, **kwargs)
        except (AttributeError, TypeError):
            return original(*args, **kwargs)

    _ours.add(answer)
    return answer
