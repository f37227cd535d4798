"""Build the network or LightningModule of conf/model, and load weights from another run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from tempo.command_line.system_errors import enough_memory
from tempo.config.check import check
from tempo.config.hydra_targets import instantiated, parameters_of, signature_of
from tempo.config.recorded_config import completed
from tempo.config.schema import Target
from tempo.errors import UserError
from tempo.record.foreign_folder import check_foreign_config
from tempo.record.run_json import RunRecord
from tempo.trainer.checkpoint_file import network_weights, tested_weights, weights_sha256


def build_model(model: Target, seed: int, shape: tuple[int, ...] | None, num_classes: int) -> nn.Module:
    """Build the network or the LightningModule of conf/model; its weights depend only on the seed.

    A class whose parameters include `input_shape` and `num_classes` is a network, and gets those of the data.
    """
    passed = parameters_of(model.target)
    if {"input_shape", "num_classes"} <= passed.keys():
        if shape is None or len(shape) != 3 or num_classes < 2:
            raise UserError(
                f"model={model.name} is a network for images of several classes, but these data do not say "
                "their shape and classes; set data=<option with images>, or model=<a LightningModule>"
            )
        return build_network(model, seed, (shape[0], shape[1], shape[2]), num_classes)
    torch.manual_seed(seed)
    module = instantiated("model", model.node)
    if isinstance(module, pl.LightningModule):
        return module
    kind = type(module).__name__
    if isinstance(module, nn.Module):
        kind += ", a network without the parameters input_shape and num_classes"
    raise UserError(
        f"model._target_={model.target} returns a {kind}; it must be a LightningModule, or a network with "
        "these two parameters, which the data set"
    )


def build_network(model: Target, seed: int, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Build the network of conf/model for images `[C, H, W]`; its weights depend only on the seed."""
    behind = {}
    if "network" in (signature_of(model.target) or {}):
        frozen = network_of_run(Path(model.get("run")).expanduser().absolute(), input_shape, num_classes)
        behind = {"network": frozen, "network_sha256": weights_sha256(frozen)}
    torch.manual_seed(seed)
    with enough_memory("the weights", "use a smaller network, e.g. model=mlp model.hidden=[64]"):
        network = instantiated(
            "model", model.node, input_shape=input_shape, num_classes=num_classes, **behind
        )
    if not isinstance(network, nn.Module):
        raise UserError(
            f"model._target_={model.target} does not return a torch.nn.Module; choose another model=..."
        )
    return network


def start_from(network: nn.Module, source: str) -> dict[str, str]:
    """Load the weights that a run tested, or those of a checkpoint; return their entry in the record.

    Raises:
        UserError: there are no weights, or they belong to another network.
    """
    path = Path(source).expanduser().absolute()
    if path.is_file():
        weights = network_weights(path)
    else:
        record = RunRecord.read(path)
        check_foreign_config(record.config)
        weights = tested_weights(path, record)
    wanted = network.state_dict()
    for name in sorted(wanted.keys() | weights.keys()):
        here, there = _shape(wanted.get(name)), _shape(weights.get(name))
        if here != there:
            raise UserError(
                f"init_from={source}: {name} is {there} there and {here} in this model; choose the model=... "
                "and the classes that those weights were trained with"
            )
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:  # a stem's weights name the network behind it, and this one has another
        raise UserError(f"init_from={source}: {error}; choose another model=...") from error
    return {"path": source, "weights_sha256": weights_sha256(network)}


def _shape(value: torch.Tensor | dict[str, Any] | None) -> str:
    if isinstance(value, torch.Tensor):
        return f"of shape {tuple(value.shape)}"
    return "absent" if value is None else "not a tensor"


def network_of_run(folder: Path, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Build the tested network of a finished run, for a stem in front of it that takes images `[C, H, W]`.

    Raises:
        UserError: the run is not finished, its folder names foreign code, or it was trained on images of
            another size or with other classes.
    """
    channels, height, width = input_shape
    if min(height, width) < 2:  # each stem halves the images, so this also ends a cycle of stems
        raise UserError(
            f"model.run={folder} cannot follow a stem for images of {height}x{width}; use larger images"
        )
    record = RunRecord.read(folder)
    check_foreign_config(record.config)
    halved = (channels, (height + 1) // 2, (width + 1) // 2)
    trained_on, classes = record.data.get("shape"), record.data.get("classes")
    if record.status != "completed" or trained_on is None:
        raise UserError(f"model.run={folder} has status {record.status}; pass a completed run")
    if trained_on != list(halved) or classes != num_classes:
        raise UserError(
            f"model.run={folder} was trained on images {trained_on} of {classes} classes; for images "
            f"{list(input_shape)} of {num_classes} it must have been {list(halved)}; pass another run, or "
            "set data.image_size=<twice that of the run>"
        )
    config = check(completed(record, folder))
    network = build_network(config.model, config.seed, halved, num_classes)
    try:
        network.load_state_dict(tested_weights(folder, record))
    except RuntimeError as error:
        raise UserError(f"model.run={folder}: its checkpoint does not fit its network: {error}") from error
    return network
