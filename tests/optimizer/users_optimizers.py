"""Optimizers as a user would write them in a package of their own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Midpoint(torch.optim.SGD):
    """`p' = p - lr g(p - lr/2 g(p))`: two gradients a step, though `closure` has torch's usual default."""

    needs_closure = True

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor:
        assert closure is not None
        group = self.param_groups[0]
        start = [parameter.clone() for parameter in group["params"]]
        with torch.enable_grad():
            loss = closure()
        for parameter in group["params"]:
            parameter -= 0.5 * group["lr"] * parameter.grad
        with torch.enable_grad():
            closure()
        for parameter, value in zip(group["params"], start, strict=True):
            parameter.copy_(value - group["lr"] * parameter.grad)
        return loss


class Undeclared(torch.optim.SGD):
    """Declares nothing, and cannot take a step without a closure."""

    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        return closure()


class Mean(torch.optim.SGD):
    """SGD that evaluates the mean of the weights after all steps so far (Polyak and Juditsky 1992)."""

    steps = 0

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        loss = super().step(closure)
        self.steps += 1
        for parameter in self.param_groups[0]["params"]:
            mean = self.state[parameter].setdefault("mean", torch.zeros_like(parameter))
            mean += (parameter - mean) / self.steps
        return loss

    @torch.no_grad()
    def eval(self) -> None:
        """Write the mean into the parameters."""
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter]["trained"] = parameter.clone()
            parameter.copy_(self.state[parameter]["mean"])

    @torch.no_grad()
    def train(self) -> None:
        """Take it out again."""
        for parameter in self.param_groups[0]["params"]:
            if "trained" in self.state[parameter]:
                parameter.copy_(self.state[parameter].pop("trained"))


class Newton(torch.optim.SGD):
    """Differentiates the loss itself."""

    needs_closure = True
    takes_second_derivatives = True


class Pair(torch.optim.SGD):
    """Two rules in one."""

    is_composed = True
