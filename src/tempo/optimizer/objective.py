"""The loss as a function of one vector: what methods with a line search see."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

Closure = Callable[[], Tensor]


def add_decay(loss: Tensor, decayed: Iterable[tuple[Tensor, float]]) -> Tensor:
    """`f = loss + sum wd/2 |p|^2` over (parameter, wd) pairs; adds `wd p` to the gradients in place.

    The term belongs to the function itself: a line search compares values and slopes of one and the same f.
    """
    for parameter, wd in decayed:
        if wd:
            loss = loss + 0.5 * wd * parameter.detach().square().sum()
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach(), alpha=wd)
    return loss


class Objective:
    """`f(x)` and its gradient, where x `[n]` holds the parameters of all groups one after the other.

    `closure` computes the loss at the parameters as they are and leaves gradients in `.grad`, as torch's own
    optimizers want it; each group's `weight_decay` adds `wd/2 |x|^2`.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], closure: Closure) -> None:
        self.decayed = [(p, float(group["weight_decay"])) for group in groups for p in group["params"]]
        self.parameters = [parameter for parameter, _ in self.decayed]
        self.closure = torch.enable_grad()(closure)

    @property
    def x(self) -> Tensor:
        """A copy of the parameters, `[n]`."""
        return flat(self.parameters)

    def move_to(self, x: Tensor) -> None:
        """Write `x` into the parameters."""
        for parameter, part in zip(self.parameters, parts(x, self.parameters), strict=True):
            parameter.copy_(part)

    def at(self, x: Tensor) -> tuple[float, Tensor]:
        """`f(x)` and its gradient `[n]`; the parameters stay at `x`."""
        self.move_to(x)
        loss = add_decay(self.closure(), self.decayed)
        gradients = [p.new_zeros(p.shape) if p.grad is None else p.grad for p in self.parameters]
        return float(loss), flat(gradients)


def flat(tensors: Iterable[Tensor]) -> Tensor:
    """All elements one after the other, `[n]`, a copy."""
    return torch.cat([each.detach().reshape(-1) for each in tensors])


def parts(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Inverse of `flat`: views of `vector` in the shapes of `like`."""
    pieces = vector.split([each.numel() for each in like])
    return [piece.view(each.shape) for piece, each in zip(pieces, like, strict=True)]
