"""Newton's method with conjugate gradients, which need products with the Hessian but not the Hessian."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from tempo.optimizer.flat_loss import Closure, flat, parts, write

_HALF = 0.5


class NewtonCG(torch.optim.Optimizer):
    """Line search Newton-CG (Nocedal & Wright 2006, algorithm 7.1).

    Conjugate gradients solve `B p = -g`, B the Hessian, until `|B p + g| <= min(forcing, sqrt|g|) |g|`. They
    end early at a direction d without positive curvature, `d . B d <= 0`: p is then the solution so far, or
    -g. `B d = d/dx (g . d)` by double backward (Pearlmutter 1994). Then `x' = x + t p` with the first t of
    lr, lr/2, .. that has `f(x') <= f(x) + c1 t g . p`.

    Args:
        params: parameter groups.
        lr: the t tried first; 1 is Newton's step.
        weight_decay: of a group; adds `wd/2 |x|^2` to the loss.
        max_iter: iterations per `step`, on its batch.
        max_cg: Hessian-vector products per iteration; each costs about as much as a loss with its gradient.
        max_trials: values of t per iteration.
        forcing: largest residual of the linear system, as a fraction of |g|.
        c1: sufficient decrease.
        tolerance_grad: a step ends early if no component of the gradient is larger.

    Attributes:
        hessian_products: number of them in the last step.
    """

    needs_closure: ClassVar[bool] = True
    takes_second_derivatives: ClassVar[bool] = True

    def __init__(
        self,
        params: Sequence[dict[str, Any]],
        *,
        lr: float = 1.0,
        weight_decay: float = 0.0,
        max_iter: int = 1,
        max_cg: int = 20,
        max_trials: int = 20,
        forcing: float = 0.5,
        c1: float = 1e-4,
        tolerance_grad: float = 1e-7,
    ) -> None:
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "max_iter": max_iter,
            "max_cg": max_cg,
            "max_trials": max_trials,
            "forcing": forcing,
            "c1": c1,
            "tolerance_grad": tolerance_grad,
        }
        super().__init__(params, defaults)
        self.hessian_products = 0

    def step(self, closure: Closure) -> float:  # type: ignore[override]
        """Take up to `max_iter` iterations and return the loss at the start, with weight decay."""
        self.hessian_products = 0
        settings, first_value = self.param_groups[0], math.nan
        parameters = [p for group in self.param_groups for p in group["params"]]
        for iteration in range(settings["max_iter"]):
            with torch.enable_grad():
                value = self._loss(closure)
                slopes = torch.autograd.grad(
                    value, parameters, create_graph=True, allow_unused=True, materialize_grads=True
                )
            if iteration == 0:
                first_value = float(value.detach())
            gradient = flat(slopes)
            # `not >` instead of `<=`: a NaN ends the step as well.
            if not gradient.abs().max() > settings["tolerance_grad"]:
                break
            direction = self._direction(gradient, self._curvature(slopes, parameters))
            if not self._search(closure, parameters, float(value.detach()), gradient, direction):
                break
        return first_value

    def _loss(self, closure: Closure) -> Tensor:
        value = closure()
        for group in self.param_groups:
            if group["weight_decay"]:
                for parameter in group["params"]:
                    value = value + _HALF * group["weight_decay"] * parameter.square().sum()
        return value

    def _curvature(self, slopes: Sequence[Tensor], parameters: list[Tensor]) -> Callable[[Tensor], Tensor]:
        """Return the function `d -> B d` at the point where the gradient `slopes` was computed."""

        def product(direction: Tensor) -> Tensor:
            self.hessian_products += 1
            along = parts(direction, parameters)
            with_graph = [(slope, d) for slope, d in zip(slopes, along, strict=True) if slope.requires_grad]
            if not with_graph:
                return torch.zeros_like(direction)  # f is linear
            return flat(
                torch.autograd.grad(
                    [slope for slope, _ in with_graph],
                    parameters,
                    [d for _, d in with_graph],
                    retain_graph=True,
                    allow_unused=True,
                    materialize_grads=True,
                )
            )

        return product

    def _direction(self, gradient: Tensor, product: Callable[[Tensor], Tensor]) -> Tensor:
        settings, size = self.param_groups[0], float(gradient.norm())
        tolerance = min(settings["forcing"], math.sqrt(size)) * size
        p, r, d = torch.zeros_like(gradient), gradient.clone(), -gradient
        r_squared = float(r @ r)
        for products in range(settings["max_cg"]):
            b_d = product(d)
            curvature = float(d @ b_d)
            # `not >` instead of `<=`: a NaN counts as no curvature.
            if not curvature > 0:
                return p if products else -gradient
            alpha = r_squared / curvature
            p += alpha * d
            r += alpha * b_d
            r_squared, before = float(r @ r), r_squared
            if math.sqrt(r_squared) <= tolerance:
                break
            d = (r_squared / before) * d - r
        return p

    @torch.no_grad()
    def _search(
        self, closure: Closure, parameters: list[Tensor], value: float, gradient: Tensor, direction: Tensor
    ) -> bool:
        """Move to the first t that is low enough and return True; stay and return False if there is none."""
        settings, x, t = self.param_groups[0], flat(parameters), float(self.param_groups[0]["lr"])
        slope = float(gradient @ direction)
        for _ in range(settings["max_trials"]):
            write(x + t * direction, parameters)
            if float(self._loss(closure)) <= value + settings["c1"] * t * slope:
                return True
            t *= _HALF
        write(x, parameters)
        return False
