"""Build the transforms of single images that data.transform and data.eval_transform list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tempo.config.hydra_targets import instantiated
from tempo.data.transforms import Transform
from tempo.errors import UserError


def build_transforms(key: str, nodes: Sequence[Mapping[str, Any]] | None) -> list[Transform]:
    """Return the transforms of a list of nodes; UserError for an entry that is none."""
    found: list[Transform] = []
    for node in nodes or ():
        target = node.get("_target_")
        remedy = f"set {key}=null, or e.g. {key}=[{{_target_: torchvision.transforms.v2.RandAugment}}]"
        if not isinstance(target, str):
            raise UserError(f"{key}: an entry has no _target_, the name of a transform; {remedy}")
        try:
            built = instantiated(key, node)
        except UserError as error:
            raise UserError(f"{str(error).rpartition('; ')[0] or error}; {remedy}") from error
        if not callable(built):
            raise UserError(f"{key}: {target} gives a {type(built).__name__}, not a transform; {remedy}")
        found.append(built)
    return found
