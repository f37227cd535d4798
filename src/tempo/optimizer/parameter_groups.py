"""Which parameters are trained, and which of them decay."""

from __future__ import annotations

from typing import Any

from torch import nn

from tempo.errors import UserError


def parameter_groups(
    model: nn.Module, *, wd: float | None, decay_norm_and_bias: bool
) -> list[dict[str, Any]]:
    """Parameter groups in torch's form, each with its own `weight_decay`.

    All parameters decay by default, as in the papers. `decay_norm_and_bias=False` spares those of one
    dimension or none: biases and the weights of normalisation. `wd=None` (an optimizer without weight decay)
    sets none. Frozen parameters are left out; a parameter that two modules share appears once.

    Raises UserError where nothing is left to train.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise UserError(
            "the model has no parameter to train: all are frozen, or it has none; set model=resnet20"
        )
    if wd is None:
        return [{"params": trainable}]
    if decay_norm_and_bias:
        return [{"params": trainable, "weight_decay": wd}]
    decayed = [parameter for parameter in trainable if parameter.ndim > 1]
    spared = [parameter for parameter in trainable if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": wd}, {"params": spared, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
