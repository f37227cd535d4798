"""Check the whole configuration before importing torch or creating a folder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from tempo.config.callback_targets import check_callbacks
from tempo.config.hydra_targets import (
    check_installed,
    check_target,
    option_values,
    parameters_of,
    required_by,
    signature_of,
)
from tempo.config.keys_elsewhere import key_here
from tempo.config.rules import check_rules
from tempo.config.schema import (
    COMMON_DATA_KEYS,
    COMMON_MODEL_KEYS,
    GROUPS,
    OWN,
    ROOT_KEYS,
    SECTIONS,
    AugmentConfig,
    DataConfig,
    ModelConfig,
    RunConfig,
    Target,
    defaults_of,
    read_section,
    with_defaults,
)
from tempo.config.value_types import check_present, check_types
from tempo.errors import UserError, nearest
from tempo.optimizer.knobs import check_knobs, knob_types
from tempo.record.foreign_folder import check_plain

GLOBAL_GROUPS = ("experiment", "scale", "debug")
"""Groups whose files change keys anywhere."""


def check(values: Mapping[str, Any]) -> RunConfig:
    """Check types, ranges and the rules between keys, and return the typed configuration.

    Raises:
        UserError: one line for the first error: the value, the reason and an override that fixes it.
    """
    check_plain("", values)
    _check_root(values)
    values = with_defaults(values)
    check_knobs(values["optimizer"])  # before the schedule, which takes its rates from optimizer.lr
    for name in GROUPS:
        _check_target(name, values[name])
    loggers = _loggers(values.get("logger"))
    check_callbacks(values.get("callbacks"))
    config = read_section(
        RunConfig,
        "",
        {name: value for name, value in values.items() if name in ROOT_KEYS},
        **{name: read_section(section, name, select(values, name)) for name, section in SECTIONS.items()},
        **{name: as_target(values[name]) for name in ("loss", "optimizer", "scheduler")},
        data=_read_data(values["data"]),
        model=read_model(values["model"]),
        loggers=loggers,
        values=values,
    )
    check_rules(config)
    return config


def _check_root(values: Mapping[str, Any]) -> None:
    known = {*ROOT_KEYS, *SECTIONS, *GROUPS, "logger"}
    if unknown := sorted(str(name) for name in values if name not in known):
        name = unknown[0]
        if name == "scaling":
            raise UserError("scaling.* belongs to src/scale.py; run python src/scale.py with these overrides")
        if line := key_here(name, values[name]):
            raise UserError(line)
        if name in GLOBAL_GROUPS:
            raise UserError(
                f"{name}=<option>: its file would set keys below {name}; make '# @package _global_' the "
                "first line of the file"
            )
        raise UserError(
            f"{name} is not a key.{nearest(name, known)} Leave it out. Known: {', '.join(sorted(known))}"
        )
    check_present("", values, ROOT_KEYS, lambda: defaults_of(RunConfig))  # which records are read by
    for name in GROUPS:
        if not isinstance(values.get(name), Mapping):
            raise UserError(
                f"{name}={values.get(name)!r} is not a group of keys; set {name}=<option of conf/{name}>"
            )


def _read_data(node: Mapping[str, Any]) -> DataConfig:
    augment = read_section(AugmentConfig, "data.augment", select({"data": node}, "data.augment"))
    common = {name: value for name, value in node.items() if name in COMMON_DATA_KEYS - {"augment"}}
    return read_section(DataConfig, "data", common, augment=augment, source=as_target(source_keys(node)))


def read_model(node: Mapping[str, Any]) -> ModelConfig:
    """Return the model's node as an object; a common key that its class takes itself is the class's."""
    arguments = model_arguments(node)
    common = {name: value for name, value in node.items() if name in COMMON_MODEL_KEYS - arguments.keys()}
    return read_section(ModelConfig, "model", common, target=node["_target_"], arguments=arguments)


def _loggers(node: Any) -> dict[str, Target]:
    """Return the loggers by name, each a node of its own: `logger=[wandb,mlflow]` has two."""
    if not isinstance(node, Mapping):
        return {}
    for name, logger in node.items():
        if not isinstance(logger, Mapping) or not isinstance(logger.get("_target_"), str):
            raise UserError(
                f"logger.{name}={logger!r} is not a key; choose loggers by logger=[wandb,mlflow], or add one "
                "with +logger.<name>._target_=<class>"
            )
        check_installed(logger["_target_"])
    return {name: as_target(logger) for name, logger in node.items()}


def as_target(node: Mapping[str, Any]) -> Target:
    """Return a node with a `_target_` as a `Target`."""
    arguments = {name: value for name, value in node.items() if name != "_target_"}
    return Target(target=node["_target_"], arguments=arguments)


_PASSED = {
    "data": frozenset[str](),
    "model": frozenset({"input_shape", "num_classes", "network", "network_sha256"}),
    "loss": frozenset({"num_classes", "class_counts"}),
    "scheduler": frozenset[str](),
    "optimizer": frozenset({"params"}),
}
"""Arguments that a run passes itself: no key in the configuration may have these names."""


def _check_target(group: str, node: Mapping[str, Any]) -> None:
    if "_target_" not in node:
        raise UserError(
            f"{group} has no _target_, which each option of conf/{group} has; leave out what deletes it, "
            f"~{group} or ~{group}._target_"
        )
    check_target(group, node["_target_"])
    if node["_target_"] == OWN:
        given = source_keys(node) if group == "data" else node
        for name in [name for name, value in given.items() if name != "_target_" and value is not None]:
            raise UserError(
                f"{group}.{name}={node[name]}: with {group}=own the LightningModule sets it; remove the key, "
                f"and set it under model, e.g. model.{name}={node[name]}"
            )
        return
    known = signature_of(node["_target_"])
    if known is None:
        return
    known = knob_types(known) if group == "optimizer" else known
    own_keys = {"data": source_keys, "model": model_arguments}.get(group, dict)
    arguments = {name: value for name, value in own_keys(node).items() if name != "_target_"}
    examples = partial(option_values, group, node["_target_"])
    annotations = {name: kind for name, kind in known.items() if name not in _PASSED[group]}
    if group == "data":  # named beside the source's own keys, and checked with their types elsewhere
        annotations = dict.fromkeys(COMMON_DATA_KEYS, "Any") | annotations
    check_types(group, arguments, annotations, examples)
    check_present(group, arguments, required_by(node["_target_"]) - _PASSED[group], examples)


def model_arguments(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the class's arguments: its own keys, and common keys that are set and that it names."""
    common = [name for name in COMMON_MODEL_KEYS & node.keys() if node[name] is not None]
    named = parameters_of(str(node["_target_"])) if common else {}
    left_out = {"_target_", *COMMON_MODEL_KEYS} - {name for name in common if name in named}
    return {name: value for name, value in node.items() if name not in left_out}


def source_keys(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the source's arguments: its own keys, and any common keys that its signature names."""
    named = signature_of(str(node.get("_target_", ""))) or {}
    return {key: value for key, value in node.items() if key not in COMMON_DATA_KEYS or key in named}


def select(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the node at a dotted key; raise UserError if it is not a group of keys."""
    node: Any = config
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    if not isinstance(node, Mapping):
        raise UserError(
            f"{key}={node!r} must be a group of keys; leave {key} out, or set keys in it, {key}.<key>=<value>"
        )
    return node
