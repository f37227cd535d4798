"""From the configuration's model node to a network, and back to the network of a finished run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tempo.config.check import Config, check
from tempo.config.instantiate import instantiated
from tempo.config.recorded import completed
from tempo.config.signature import signature_of
from tempo.errors import UserError
from tempo.record.foreign_folder import check_foreign_config
from tempo.record.run_json import RunRecord
from tempo.trainer.final_state import weights_sha256
from tempo.trainer.tested_state import network_weights, tested_weights


def build_network(
    config: Config | Mapping[str, Any], input_shape: tuple[int, int, int], num_classes: int
) -> nn.Module:
    """The network of conf/model for images `[C, H, W]`; its weights follow from `seed` alone."""
    node = config["model"]
    behind = {}
    if "network" in (signature_of(str(node["_target_"])) or {}):
        frozen = network_of_run(Path(node["run"]).expanduser().absolute(), input_shape, num_classes)
        behind = {"network": frozen, "network_sha256": weights_sha256(frozen)}
    torch.manual_seed(config["seed"])
    network = instantiated("model", node, input_shape=input_shape, num_classes=num_classes, **behind)
    if not isinstance(network, nn.Module):
        raise UserError(
            f"model._target_={config['model']['_target_']} makes no torch module: choose another model=..."
        )
    return network


def start_from(network: nn.Module, place: str) -> dict[str, str]:
    """Give a network the weights that a run was tested with, or those of a checkpoint; what the record says.

    Raises:
        UserError: no such weights, or weights of another network.
    """
    path = Path(place).expanduser().absolute()
    if path.is_file():
        weights = network_weights(path)
    else:
        record = RunRecord.read(path)
        check_foreign_config(record.config)
        weights = tested_weights(path, record)
    wanted = network.state_dict()
    for name in sorted(wanted.keys() | weights.keys()):
        here, there = (_shape(each.get(name)) for each in (wanted, weights))
        if here != there:
            raise UserError(
                f"init_from={place}: {name} is {there} there and {here} in this model: choose the model=... "
                "and the classes that those weights were trained with"
            )
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:  # weights of a stem know the network that they stand in front of
        raise UserError(f"init_from={place}: {error}; choose another model=...") from error
    return {"path": place, "weights_sha256": weights_sha256(network)}


def _shape(value: torch.Tensor | dict[str, Any] | None) -> str:
    if isinstance(value, torch.Tensor):
        return f"of shape {tuple(value.shape)}"
    return "absent" if value is None else "no tensor"


def network_of_run(folder: Path, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """The tested network of a finished run, for a stem that takes images `[C, H, W]` of twice its size.

    Raises:
        UserError: the run is not finished, may not be trusted, or was trained on images of another size or
            with other classes.
    """
    channels, height, width = input_shape
    if min(height, width) < 2:  # a chain of stems that leads back to itself ends here
        raise UserError(
            f"model.run={folder} cannot stand behind images of {height}x{width}: take larger ones"
        )
    record = RunRecord.read(folder)
    check_foreign_config(record.config)
    halved = [channels, (height + 1) // 2, (width + 1) // 2]
    trained_on, classes = record.data.get("shape"), record.data.get("classes")
    if record.status != "completed" or trained_on is None:
        raise UserError(
            f"model.run={folder} is {record.status}, no network to stand on: name a completed run"
        )
    if trained_on != halved or classes != num_classes:
        raise UserError(
            f"model.run={folder} was trained on images {trained_on} of {classes} classes; in front of images "
            f"{list(input_shape)} of {num_classes} it must have been {halved}: name another run, or "
            "data.image_size=<twice that of the run>"
        )
    record.config = completed(record, folder)
    network = build_network(check(record.config), (channels, halved[1], halved[2]), num_classes)
    try:
        network.load_state_dict(tested_weights(folder, record))
    except RuntimeError as error:
        raise UserError(f"model.run={folder}: its checkpoint does not fit its network: {error}") from error
    return network
