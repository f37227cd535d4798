"""The configuration is checked here, whole, before torch is imported or a folder is made."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tempo.complaints import one_line
from tempo.errors import UserError, nearest
from tempo.foreign import are_foreign, check_foreign_config, check_foreign_places, check_plain
from tempo.knobs import check_knobs, knob_types
from tempo.process_group import check_start
from tempo.range_file import with_bounds
from tempo.rules import check_rules
from tempo.run_folder import check_folder, named_folder, note_folder
from tempo.schedule_choice import with_own_values
from tempo.settings import NODES, SECTIONS, DataSettings, RunSettings
from tempo.signature import Signature, check_present, check_types, required_by, signature_of
from tempo.targets import check_findable, check_installed

Config = Mapping[str, Any]
"""A composed configuration as plain values."""

GROUPS = ("data", "model", "optimizer", "scheduler")
"""What every run is made of: an option of each."""
GLOBAL_GROUPS = ("experiment", "scale", "debug")
"""Groups whose files change keys anywhere."""
COMMON_DATA_KEYS = frozenset(DataSettings.__annotations__)


def plain(config: DictConfig) -> dict[str, Any]:
    """Every interpolation and `auto` bound resolved, every node a plain dict or list.

    Raises:
        UserError: an interpolation that leads nowhere, a value that is still missing, an `auto` bound whose
            range test cannot give it, or see `with_own_values`.
    """
    job = with_own_values(without_hydra(config) if "hydra" in config else config)
    try:
        values = OmegaConf.to_container(job, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key}: {str(error).splitlines()[0]}; give it a value") from error
    assert isinstance(values, dict)
    # A bound that still follows the optimizer's rate was set by nobody.
    untouched = is_interpolation(job, "scheduler.min_lr")
    return with_bounds({str(key): value for key, value in values.items()}, untouched)


def without_hydra(config: DictConfig) -> DictConfig:
    """The job's part of a configuration, interpolations as they are."""
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


def is_interpolation(config: DictConfig, key: str) -> bool:
    """Whether the value at a dotted key is `${..}` and no value of its own."""
    parent, _, leaf = key.rpartition(".")
    node = OmegaConf.select(config, parent)
    return isinstance(node, DictConfig) and leaf in node and OmegaConf.is_interpolation(node, leaf)


def check(config: Config) -> None:
    """All types, ranges and rules between fields; the first that is broken is raised.

    Raises:
        UserError: one line with the value, the reason and the override that mends it.
    """
    check_plain("", config)
    _check_sections(config)
    check_knobs(config["optimizer"])  # before the schedule, which takes its rates from optimizer.lr
    _check_targets(config)
    check_rules(config)


class CheckBeforeRun(Callback):
    """Runs `check` when the configuration is composed and no folder is made yet."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """End the process with one line where the configuration cannot work."""
        try:
            _check_not_a_table(config)
            values = composed(config)
            if values.get("resume") or are_foreign():
                check_foreign_config(values)
            check(values)
            if are_foreign():
                check_foreign_places(values)
            check_start(values["trainer"])
            folder = _folder_of(config)
            note_folder(folder)
            if not values["preview"]:
                check_folder(values, folder)
        except (UserError, OmegaConfBaseException) as error:
            # Hydra turns exceptions of callbacks into warnings; SystemExit it lets through.
            sys.exit(one_line(error))
        except OSError as error:
            sys.exit(f"{error.filename}: {error.strerror}; choose another folder with hydra.run.dir=<folder>")


def _folder_of(config: DictConfig) -> Path:
    """Where the run will write, if it may."""
    with hydra_knows(announced(config)):
        text, inner = str(config.hydra.run.dir), config.hydra.output_subdir
    folder = named_folder("hydra.run.dir", text)
    if inner not in (None, ".hydra"):
        raise UserError(
            f"hydra.output_subdir={inner}: what reads a run's folder looks into .hydra; leave it out, or null"
        )
    return folder


def _check_not_a_table(config: DictConfig) -> None:
    rows = OmegaConf.select(config, "hydra.sweeper.rows")
    if isinstance(rows, ListConfig) and rows:
        asked = OmegaConf.select(config, "hydra.runtime.choices.experiment")
        raise UserError(f"experiment={asked} is a table of {len(rows)} runs: add -m, or name one of its rows")


def composed(config: DictConfig) -> dict[str, Any]:
    """The job's part of a configuration that still has its `hydra` node, as plain values."""
    with hydra_knows(announced(config)):
        return plain(config)


def announced(config: DictConfig) -> Any:
    """What HydraConfig holds once Hydra has announced this configuration."""
    with hydra_knows(None):
        HydraConfig.instance().set_config(config)
        return HydraConfig.instance().cfg


@contextlib.contextmanager
def hydra_knows(config: Any) -> Iterator[None]:
    """Let `${hydra:..}` be resolved from what was `announced`, before Hydra itself does so."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().cfg = config
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before


def _check_sections(config: Config) -> None:
    types = field_types(RunSettings)
    known = {*types, *NODES, *(name.partition(".")[0] for name in SECTIONS)}
    if unknown := sorted(str(key) for key in config if key not in known):
        key = unknown[0]
        if key == "scaling":
            raise UserError("scaling.* is what src/scale.py measures: python src/scale.py with this command")
        if key in GLOBAL_GROUPS:
            raise UserError(
                f"{key}=<option>: what the file sets would stand below {key}; its first line must be "
                "'# @package _global_'"
            )
        raise UserError(
            f"{key} is no key.{nearest(key, known)} Leave it out, or use {', '.join(sorted(known))}"
        )
    check_types("", {key: value for key, value in config.items() if key in types}, types)
    check_present("", config, types)
    for name, kind in SECTIONS.items():
        check_types(name, select(config, name), field_types(kind))
        check_present(name, select(config, name), field_types(kind))
    for name in GROUPS:
        if not isinstance(config.get(name), Mapping):
            raise UserError(
                f"{name}={config.get(name)!r} is no group of keys: {name}=<option of conf/{name}>"
            )


def _check_targets(config: Config) -> None:
    common = {key: value for key, value in config["data"].items() if key in COMMON_DATA_KEYS}
    check_types("data", common, field_types(DataSettings))
    check_present("data", common, field_types(DataSettings))
    nodes: dict[str, tuple[Mapping[str, Any], set[str]]] = {
        "data": (source_keys(config["data"]), set()),
        "model": (config["model"], {"input_shape", "num_classes", "network", "network_sha256"}),
        "scheduler": (config["scheduler"], set()),
        "optimizer": (config["optimizer"], {"params"}),
    }
    for name, (node, passed) in nodes.items():
        if "_target_" not in node:
            raise UserError(f"{name} has no _target_: choose an option of conf/{name}, e.g. {name}=...")
        check_findable(name, node["_target_"])
        known = signature_of(node["_target_"])
        if known is not None:
            known = knob_types(known) if name == "optimizer" else known
            keys = {key: value for key, value in node.items() if key != "_target_"}
            check_types(name, keys, {key: kind for key, kind in known.items() if key not in passed})
            check_present(name, keys, required_by(node["_target_"]) - passed)
    if isinstance(config.get("logger"), Mapping) and "_target_" in config["logger"]:
        check_installed(config["logger"]["_target_"])


def source_keys(node: Mapping[str, Any]) -> dict[str, Any]:
    """What the source is called with: the data node's own keys, and common ones that it names."""
    named = signature_of(str(node.get("_target_", ""))) or {}
    return {key: value for key, value in node.items() if key not in COMMON_DATA_KEYS or key in named}


def field_types(kind: type[Any]) -> Signature:
    """Field -> annotation of a settings class, as in its source."""
    return {name: str(annotation) for name, annotation in kind.__annotations__.items()}


def select(config: Config, key: str) -> Mapping[str, Any]:
    """The node at a dotted key; UserError where it is none."""
    node: Any = config
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    if not isinstance(node, Mapping):
        raise UserError(
            f"{key}={node!r} must be a group of keys; override one of them, e.g. {key}.<key>=<value>"
        )
    return node
