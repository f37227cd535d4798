"""Load the weights that a run starts from: those of another run, or of any file with a state_dict."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tempo.errors import UserError
from tempo.optimizer.parameter_groups import check_prefixes, is_below
from tempo.record.foreign_folder import check_foreign_config
from tempo.record.run_json import RunRecord
from tempo.trainer.checkpoint_file import file_sha256, read_content, tested_checkpoint, weights_sha256

Weights = dict[str, Any]
_ENTRIES = ("state_dict", "model", "model_state_dict", "model_state", "module", "net")
"""Keys under which training programs keep a state_dict in their checkpoints."""
_PREFIXES = (
    "averaged.module.",
    "network.",
    "module.",
    "model.",
    "net.",
    "_orig_mod.",
    "backbone.",
    "encoder.",
)
"""What wrappers put before the names of a network; tempo's average comes first, since tests evaluate it."""


def start_from(network: nn.Module, source: str, ignore: Sequence[str] = ()) -> dict[str, Any]:
    """Load the weights that a run tested, or those of a file; return their entry in the record.

    The file may be a checkpoint of tempo or Lightning, a state_dict of torchvision or timm, or a .safetensors
    file. Prefixes of wrappers are removed or added where the names then fit. Each name and shape must be that
    of the network, but for the prefixes in `ignore`, whose weights stay as they were drawn.

    Raises:
        UserError: there are no weights, or they belong to another network.
    """
    path = Path(source).expanduser().absolute()
    if not path.is_file():
        record = RunRecord.read(path)
        check_foreign_config(record.config)
        path = tested_checkpoint(path, record)
    wanted = network.state_dict()
    weights = _fitted(_state_dict_of(path), network, wanted)
    names = wanted.keys() | weights.keys()
    check_prefixes("init.ignore", ignore, sorted(names))
    ignored = {name for name in names if any(is_below(prefix, name) for prefix in ignore)}
    for name in sorted(names - ignored):
        here, there = _shape(wanted.get(name)), _shape(weights.get(name))
        # Files of torch before 0.4.1 lack these counters.
        if here != there and not (name.endswith("num_batches_tracked") and there == "absent"):
            raise UserError(
                f"init_from={source}: {name} is {there} there and {here} in this model; choose the model=... "
                "and the classes that those weights were trained with, or let it start anew: "
                f"init.ignore=[{name.rpartition('.')[0] or name}]"
            )
    loaded = {name: value for name, value in weights.items() if name not in ignored}
    try:
        network.load_state_dict({**wanted, **loaded})
    except RuntimeError as error:  # a stem's weights name the network behind it, and this one has another
        raise UserError(f"init_from={source}: {error}; choose another model=...") from error
    entry = {"path": source, "file_sha256": file_sha256(path), "weights_sha256": weights_sha256(network)}
    return {**entry, "ignored": sorted(ignored & wanted.keys())} if ignore else entry


def _shape(value: torch.Tensor | Mapping[str, Any] | None) -> str:
    if isinstance(value, torch.Tensor):
        return f"of shape {tuple(value.shape)}"
    return "absent" if value is None else "not a tensor"


def _state_dict_of(path: Path) -> Weights:
    """Return the state_dict in a file; only tensors and plain values are read, so the file cannot run code.

    Raises:
        UserError: the file is damaged, or has no state_dict.
    """
    content = _safetensors(path) if path.suffix == ".safetensors" else read_content(path)
    nested = [content.get(key) for key in _ENTRIES] if isinstance(content, Mapping) else []
    for found in (content, *nested):
        if isinstance(found, Mapping) and found and all(map(_is_entry, found.items())):
            return dict(found)
    raise UserError(f"{path} has no state_dict of tensors; save one: torch.save(network.state_dict(), path)")


def _is_entry(entry: tuple[Any, Any]) -> bool:
    name, value = entry
    # A network may also keep a dict (`get_extra_state`), here with `_extra_state` as the end of its name.
    return isinstance(name, str) and (isinstance(value, torch.Tensor) or name.endswith("_extra_state"))


def _safetensors(path: Path) -> Weights:
    if importlib.util.find_spec("safetensors") is None:
        raise UserError(f"{path} needs the package safetensors; run pip install -e '.[models]', which has it")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged or not a safetensors file ({error})") from error


def _fitted(weights: Weights, network: nn.Module, wanted: Mapping[str, Any]) -> Weights:
    """Return the weights under the network's names: prefixes are removed or added while more names fit."""
    found = weights
    while True:
        choices = [_without(found, prefix) for prefix in _PREFIXES]
        choices += [_without(choice, prefix) for choice in choices for prefix in _PREFIXES]
        choices += [_under(found, name) for name, _ in network.named_children()]
        best = max(choices, key=lambda choice: len(choice.keys() & wanted.keys()))
        if len(best.keys() & wanted.keys()) <= len(found.keys() & wanted.keys()):
            return found
        found = best


def _without(weights: Weights, prefix: str) -> Weights:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def _under(weights: Weights, name: str) -> Weights:
    return {f"{name}.{inner}": value for inner, value in weights.items()}
