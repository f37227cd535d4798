"""What a `_target_` may name: what can be found."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from typing import Any

from tempo.config.signature import signature_of
from tempo.errors import UserError

EXTRAS = {
    "pytorch_lightning.loggers.WandbLogger": ("wandb", "wandb"),
    "pytorch_lightning.loggers.MLFlowLogger": ("mlflow", "mlflow"),
    "tempo.model.timm_model.timm_model": ("timm", "models"),
    "lion_pytorch.Lion": ("lion_pytorch", "optimizers"),
    "schedulefree.AdamWScheduleFree": ("schedulefree", "optimizers"),
}
"""Targets that need a package which is not installed by default: the package, and the extra that has it."""

_LIGHTNING = ("pytorch_lightning", "lightning")
_INSTEAD = {
    "model": "whose own steps and loss would not be used: for now, tempo trains networks (an nn.Module: "
    "images in, logits out) by cross-entropy; model._target_=<class of that network>, or "
    "model=<option of conf/model>",
    "data": "whose loaders would not be used: for now, tempo takes a function that returns the training and "
    "the test images (two tempo.data.images.ImageData); data._target_=<such a function>, or "
    "data=<option of conf/data>",
}
"""What tempo takes under `model` and `data`."""


def check_installed(target: Any) -> None:
    """UserError where a target needs an extra that is not there."""
    package, extra = EXTRAS.get(str(target), ("sys", ""))
    if importlib.util.find_spec(package) is None:
        raise UserError(f"the package {package} is not installed: pip install -e '.[{extra}]'")


def check_own_targets(config: Mapping[str, Any]) -> None:
    """Refuse a Lightning class of this checkout, which `check_findable` has only looked up in its source.

    Raises:
        UserError: see `check_not_lightning`.
    """
    for group in _INSTEAD:
        target = str(config[group]["_target_"])
        check_not_lightning(group, target, find(target))


def check_findable(group: str, target: Any) -> None:
    """A target of ours is looked up in its source; one of another package is imported.

    Raises:
        UserError: no class or function can be found under that name, or it is one of Python's own.
    """
    where = f"{group}._target_={target}"
    remedy = f"{group}=<option of conf/{group}>, or the full name of a class or function"
    module, _, name = target.rpartition(".") if isinstance(target, str) else ("", "", "")
    if not module or not name:
        raise UserError(f"{where} is no dotted name: {remedy}")
    check_installed(target)
    # torch's optimizers are looked up where they are built: nothing here may import torch for them.
    if signature_of(target) is not None or group == "optimizer":
        return
    package = module.partition(".")[0]
    if package in sys.stdlib_module_names:
        raise UserError(f"{where} is Python's own and makes no {group}: {remedy}")
    if package == "tempo":
        raise UserError(f"{where} cannot be found: there is no module {module}; {remedy}")
    try:
        found = find(target)
    except (ImportError, ValueError) as error:
        raise UserError(f"{where} cannot be found: {error}; {remedy}") from error
    if not callable(found):
        raise UserError(f"{where} is a {type(found).__name__}, no class or function: {remedy}")
    check_not_lightning(group, target, found)


def check_not_lightning(group: str, target: Any, found: Any) -> None:
    """Refuse a LightningModule or LightningDataModule, be it the class or an instance that a function gave.

    By the names of its classes: nothing here may import Lightning for it.

    Raises:
        UserError: one under `model` or `data`.
    """
    bases = (found if isinstance(found, type) else type(found)).__mro__
    kinds = {base.__name__ for base in bases if base.__module__.partition(".")[0] in _LIGHTNING}
    for kind in ("LightningModule", "LightningDataModule"):
        if kind in kinds and group in _INSTEAD:
            raise UserError(f"{group}._target_={target} gives a {kind}, {_INSTEAD[group]}")


def find(target: str) -> Any:
    """Import what a dotted name stands for."""
    first, *others = target.split(".")
    found, path = importlib.import_module(first), first
    for name in others:
        path = f"{path}.{name}"
        if not hasattr(found, name):
            importlib.import_module(path)
        found = getattr(found, name)
    return found
