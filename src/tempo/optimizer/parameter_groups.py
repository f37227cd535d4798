"""Parameter groups of an optimizer: each with its weight decay and its factor of the learning rate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from tempo.errors import UserError, nearest

Group = tuple[dict[str, Any], list[Tensor]]
"""What a group sets beside its weight decay, and its parameters."""


def parameter_groups(
    model: nn.Module,
    *,
    wd: float | None,
    decay_norm_and_bias: bool,
    layer_decay: float | None = None,
    lr_of: Mapping[str, float] | None = None,
    lr_of_biases: float | None = None,
) -> list[dict[str, Any]]:
    """Return the trained parameters in torch's groups, with `weight_decay`, and `lr_scale` if rates differ.

    All parameters decay by default, as in the papers. Frozen parameters are left out; one that two modules
    share appears once. The schedule sets the rate of a group to its own value times `lr_scale`. A model with
    a method `parameter_groups()`, which returns torch's groups with `lr_scale`, decides that itself.

    Args:
        model: the network or LightningModule to train.
        wd: weight decay, or None for an optimizer without.
        decay_norm_and_bias: False spares parameters of at most one dimension: biases and weights of norms.
        layer_decay: factor of the rate from a block to the one before it (`rate_scales`); None = 1.
        lr_of: factor of the rate for parameters below a prefix, e.g. `{"backbone": 0.1}`.
        lr_of_biases: factor of the rate for parameters named `bias`; None = 1.

    Raises:
        UserError: the model has no parameter to train, a prefix names none, or its own groups are wrong.
    """
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    if not trained:
        raise UserError(
            "the model has no parameter to train: all are frozen, or it has none; set model=resnet20, or "
            "model.freeze=null"
        )
    groups = []
    for settings, parameters in _rated(model, trained, layer_decay, lr_of, lr_of_biases):
        if wd is None or "weight_decay" in settings:
            groups.append({"params": parameters, **settings})
            continue
        decayed = [value for value in parameters if decay_norm_and_bias or value.ndim > 1]
        spared = [value for value in parameters if not decay_norm_and_bias and value.ndim <= 1]
        groups.append({"params": decayed, "weight_decay": wd, **settings})
        groups.append({"params": spared, "weight_decay": 0.0, **settings})
    return [group for group in groups if group["params"]]


def _rated(
    model: nn.Module,
    trained: Mapping[str, Tensor],
    layer_decay: float | None,
    lr_of: Mapping[str, float] | None,
    lr_of_biases: float | None,
) -> list[Group]:
    """Return the trained parameters by rate."""
    if (hook := getattr(model, "parameter_groups", None)) is not None:
        given = {"layer_decay": layer_decay, "lr_of": lr_of or None, "lr_of_biases": lr_of_biases}
        if key := next((name for name, value in given.items() if value is not None), None):
            raise UserError(
                f"optimizer.{key} has no effect: {type(model).__name__} has parameter_groups, which sets the "
                f"rates itself; set optimizer.{key}=null"
            )
        return _own_groups(type(model).__name__, hook(), trained)
    if layer_decay is None and not lr_of and lr_of_biases is None:
        return [({}, list(trained.values()))]
    by_scale: dict[float, list[Tensor]] = {}
    for name, scale in rate_scales(model, trained, layer_decay, lr_of or {}, lr_of_biases).items():
        by_scale.setdefault(scale, []).append(trained[name])
    return [({"lr_scale": scale}, parameters) for scale, parameters in by_scale.items()]


def rate_scales(
    model: nn.Module,
    names: Iterable[str],
    layer_decay: float | None,
    lr_of: Mapping[str, float],
    lr_of_biases: float | None = None,
) -> dict[str, float]:
    """Return the factor of the learning rate for each of the parameters `names`.

    With `layer_decay` d, the last block has the factor 1, the one before it d, then d^2, and so on (Clark et
    al. 2020, arXiv:2003.10555, for fine-tuning). Blocks are the modules directly in the model, in the order
    of their definition, and the items of those that are a Sequential or a ModuleList. A module with vectors
    only, such as a norm, belongs to the block before it. A model that only wraps another one has its blocks.
    The factor of the longest prefix in `lr_of` is multiplied with it, and that of biases.
    """
    names = list(names)
    check_prefixes("optimizer.lr_of", lr_of, names)
    blocks = _blocks(model)
    scales = {}
    for name in names:
        place = next((index for prefix, index in blocks.items() if is_below(prefix, name)), 0)
        scale = 1.0 if layer_decay is None else layer_decay ** (max(blocks.values(), default=0) - place)
        prefixes = [prefix for prefix in lr_of if is_below(prefix, name)]
        scales[name] = scale * (lr_of[max(prefixes, key=len)] if prefixes else 1.0)
        if lr_of_biases is not None and name.rpartition(".")[2] == "bias":
            scales[name] *= lr_of_biases
    return scales


def is_below(prefix: str, name: str) -> bool:
    """Whether a dotted name is `prefix` or lies below it: `layer1.0.conv1` does below `layer1`."""
    return name == prefix or name.startswith(f"{prefix}.")


def check_prefixes(key: str, prefixes: Iterable[str], names: Iterable[str]) -> None:
    """Raise UserError if one of the prefixes that a key gives matches none of the dotted names."""
    names = list(names)
    tops = list(dict.fromkeys(name.partition(".")[0] for name in names))
    for prefix in prefixes:
        if not any(is_below(prefix, name) for name in names):
            parents = {name.rpartition(".")[0] for name in names} | set(names) | set(tops)
            raise UserError(
                f"{key}: {prefix!r} is the name or the beginning of no parameter.{nearest(prefix, parents)} "
                f"Choose from: {', '.join(tops[:12])}{', ...' * (len(tops) > 12)}"
            )


def _blocks(module: nn.Module, prefix: str = "") -> dict[str, int]:
    """Return the number of the block that each module with parameters belongs to."""
    children = _with_parameters(module)
    if len(children) == 1 and not list(module.parameters(recurse=False)):
        ((name, child),) = children
        return _blocks(child, f"{prefix}{name}.")
    opened: list[tuple[str, nn.Module]] = []
    for name, child in children:
        inner = _with_parameters(child) if isinstance(child, nn.Sequential | nn.ModuleList) else []
        opened += [(f"{name}.{item}", part) for item, part in inner] or [(name, child)]
    blocks: dict[str, int] = {}
    number = -1
    for name, child in opened:
        if number < 0 or any(parameter.ndim > 1 for parameter in child.parameters()):
            number += 1
        blocks[f"{prefix}{name}"] = number
    return blocks


def _with_parameters(module: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, child) for name, child in module.named_children() if any(True for _ in child.parameters())]


def _own_groups(name: str, groups: Any, trained: Mapping[str, Tensor]) -> list[Group]:
    """Return the groups of a model's own `parameter_groups()`, without frozen parameters."""
    what = f"parameter_groups of {name}"
    if not isinstance(groups, Sequence) or not all(
        isinstance(one, Mapping) and "params" in one for one in groups
    ):
        raise UserError(f"{what} must return a list of groups such as {{'params': [...], 'lr_scale': 0.1}}")
    kept: list[Group] = []
    names = {id(value): key for key, value in trained.items()}
    for group in groups:
        settings = {key: value for key, value in group.items() if key != "params"}
        scale = settings.get("lr_scale", 1.0)
        if "lr" in settings or isinstance(scale, bool) or not isinstance(scale, int | float) or scale <= 0:
            raise UserError(
                f"{what} has a group with lr={settings.get('lr')}, lr_scale={scale}: the schedule sets lr, "
                "so give lr_scale, a factor above 0"
            )
        parameters = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        kept.append((settings, [value for value in parameters if value.requires_grad]))
    found = [id(value) for _, parameters in kept for value in parameters]
    if missing := [key for value, key in names.items() if value not in found]:
        raise UserError(f"{what} leaves out {missing[0]}, which is trained; add it to a group, or freeze it")
    if len(found) != len(set(found)):
        twice = next(names.get(value, "a parameter") for value in found if found.count(value) > 1)
        raise UserError(f"{what} has {twice} in two groups; leave it out of one")
    return kept
