"""Build the network or LightningModule of conf/model, and freeze parts of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn

from tempo.command_line.system_errors import enough_memory
from tempo.config.check import check
from tempo.config.hydra_targets import instantiated, parameters_of, signature_of
from tempo.config.recorded_config import completed
from tempo.config.schema import ModelConfig
from tempo.errors import UserError
from tempo.model.initialisation import fix_norm_scales
from tempo.optimizer.parameter_groups import check_prefixes, is_below
from tempo.record.foreign_folder import check_foreign_config
from tempo.record.run_json import RunRecord
from tempo.trainer.checkpoint_file import tested_weights, weights_sha256


def build_model(model: ModelConfig, seed: int, shape: tuple[int, ...] | None, num_classes: int) -> nn.Module:
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
        _fix_parts(module, model)
        return module
    kind = type(module).__name__
    if isinstance(module, nn.Module):
        kind += ", a network without the parameters input_shape and num_classes"
    raise UserError(
        f"model._target_={model.target} returns a {kind}; it must be a LightningModule, or a network with "
        "these two parameters, which the data set"
    )


def build_network(
    model: ModelConfig, seed: int, input_shape: tuple[int, int, int], num_classes: int
) -> nn.Module:
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
    _fix_parts(network, model)
    return network


def _fix_parts(network: nn.Module, model: ModelConfig) -> None:
    freeze(network, model.freeze or ())
    if model.norm_scale is False:
        fix_norm_scales(network)


def freeze(network: nn.Module, prefixes: Sequence[str]) -> None:
    """Freeze the parameters below each prefix, and keep the modules there in evaluation mode.

    So their batch normalization keeps its running statistics, and their dropout is off. Lightning leaves a
    module in the mode that it has when the fit begins.

    Raises:
        UserError: a prefix names no parameter.
    """
    check_prefixes("model.freeze", prefixes, [name for name, _ in network.named_parameters()])
    for prefix in prefixes:
        for name, parameter in network.named_parameters():
            if is_below(prefix, name):
                parameter.requires_grad_(False)
        for name, module in network.named_modules():
            if is_below(prefix, name):
                module.eval()


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
