"""The loss as a function of one vector, as methods with a line search need it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

Closure = Callable[[], Tensor]


def add_decay(loss: Tensor, decayed: Iterable[tuple[Tensor, float]]) -> Tensor:
    """Return `loss + sum wd/2 |p|^2` over pairs (parameter p, wd), and add `wd p` to the gradients in place.

    Decay is part of the function here: a line search must see values and slopes of the same f.
    """
    for parameter, wd in decayed:
        if wd:
            loss = loss + 0.5 * wd * parameter.detach().square().sum()
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach(), alpha=wd)
    return loss


class FlatLoss:
    """f(x) and its gradient; x `[n]` is the concatenation of the parameters of all groups.

    Args:
        groups: parameter groups; the `weight_decay` of each adds `wd/2 |x|^2` to the loss.
        closure: returns the loss at the current parameters and leaves gradients in `.grad`.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], closure: Closure) -> None:
        self.decayed = [(p, float(group["weight_decay"])) for group in groups for p in group["params"]]
        self.parameters = [parameter for parameter, _ in self.decayed]
        # A step runs without gradients, and only the closure needs them.
        self.closure = torch.enable_grad()(closure)

    @property
    def x(self) -> Tensor:
        """Copy of the parameters, `[n]`."""
        return flat(self.parameters)

    def move_to(self, x: Tensor) -> None:
        """Write `x` into the parameters."""
        write(x, self.parameters)

    def at(self, x: Tensor) -> tuple[float, Tensor]:
        """Return f(x) and its gradient `[n]`; the parameters stay at x."""
        self.move_to(x)
        loss = add_decay(self.closure(), self.decayed)
        gradients = [p.new_zeros(p.shape) if p.grad is None else p.grad for p in self.parameters]
        return float(loss), flat(gradients)


def flat(tensors: Iterable[Tensor]) -> Tensor:
    """Return a copy of all elements, concatenated to `[n]`."""
    # torch.nn.utils.parameters_to_vector takes views, which channels_last parameters do not have.
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def write(vector: Tensor, parameters: Sequence[Tensor]) -> None:
    """Write `vector` into the parameters; gradients must be off."""
    for parameter, part in zip(parameters, parts(vector, parameters), strict=True):
        parameter.copy_(part)


def parts(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Return views of `vector` in the shapes of `like`: the inverse of `flat`."""
    pieces = vector.split([tensor.numel() for tensor in like])
    return [piece.view(tensor.shape) for piece, tensor in zip(pieces, like, strict=True)]
