"""BFGS with the full inverse Hessian, for small networks and full batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from tempo.errors import UserError
from tempo.optimizer.flat_loss import Closure, FlatLoss
from tempo.optimizer.line_search import Point, strong_wolfe

_BYTES_PER_GB = 1_000_000_000


class BFGS(torch.optim.Optimizer):
    """Broyden-Fletcher-Goldfarb-Shanno (Nocedal & Wright 2006, algorithm 6.1).

    `p = -H g` and `x' = x + t p`, with t from a strong Wolfe line search. With `s = x' - x`, `y = g' - g` and
    `rho = 1 / (y . s)`:

        H' = (I - rho s y^T) H (I - rho y s^T) + rho s s^T        (eq. 6.17)

    H `[n, n]` starts as I and becomes `(y . s) / (y . y) I` before the first update (eq. 6.20). An update is
    skipped if `y . s` is not above 0 by more than rounding, because H would not stay positive definite. If
    the search finds no lower point, H is set back to I, once.

    Args:
        params: parameter groups; n is the number of their elements.
        lr: the t that each search tries first.
        weight_decay: of a group; adds `wd/2 |x|^2` to the loss.
        max_iter: iterations per `step`, on its batch.
        max_trials: evaluations of the loss per search.
        c1, c2: sufficient decrease and curvature of the Wolfe conditions.
        tolerance_grad: a step ends early if no component of the gradient is larger.
        max_memory_gb: limit on the size of H, in 10^9 bytes.

    Raises:
        UserError: H would take more than `max_memory_gb`.
    """

    needs_closure: ClassVar[bool] = True

    def __init__(
        self,
        params: Sequence[dict[str, Any]],
        *,
        lr: float = 1.0,
        weight_decay: float = 0.0,
        max_iter: int = 20,
        max_trials: int = 20,
        c1: float = 1e-4,
        c2: float = 0.9,
        tolerance_grad: float = 1e-7,
        max_memory_gb: float = 2.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "max_iter": max_iter,
            "max_trials": max_trials,
            "c1": c1,
            "c2": c2,
            "tolerance_grad": tolerance_grad,
            "max_memory_gb": max_memory_gb,
        }
        super().__init__(params, defaults)
        parameters = [p for group in self.param_groups for p in group["params"]]
        n, size = sum(p.numel() for p in parameters), parameters[0].element_size()
        if (memory := n * n * size) > max_memory_gb * _BYTES_PER_GB:
            raise UserError(
                f"the inverse Hessian of {n:,} parameters takes {n:,}^2 x {size} bytes = "
                f"{memory / _BYTES_PER_GB:,.2f} GB, more than optimizer.max_memory_gb={max_memory_gb:g}; use "
                "a smaller network, e.g. model=mlp model.hidden=[16], or optimizer=lbfgs"
            )

    @torch.no_grad()
    def step(self, closure: Closure) -> float:  # type: ignore[override]
        """Take up to `max_iter` iterations and return the loss at the start, with weight decay.

        `closure` computes the loss at the current parameters and leaves gradients in `.grad`.
        """
        settings = self.param_groups[0]
        loss = FlatLoss(self.param_groups, closure)
        x = loss.x
        value, gradient = loss.at(x)
        first_value = value
        # H belongs to all parameters; stored under the first, torch casts it when it loads a checkpoint.
        state = self.state[loss.parameters[0]]
        inverse: Tensor | None = state.get("inverse_hessian")
        for _ in range(settings["max_iter"]):
            # `not >` instead of `<=`: a NaN ends the step as well.
            if not gradient.abs().max() > settings["tolerance_grad"]:
                break
            direction = -gradient if inverse is None else -(inverse @ gradient)
            slope = float(gradient @ direction)
            if not slope < 0:
                inverse, direction = None, -gradient
                slope = float(gradient @ direction)
            start = Point(0.0, value, slope, gradient)
            end = self._search(loss, x, direction, start, first=inverse is None)
            if end is start:
                loss.move_to(x)
                if inverse is None:
                    break
                inverse = None
                continue
            step = end.t * direction
            inverse = updated(inverse, step, end.gradient - gradient)
            x, value, gradient = x + step, end.value, end.gradient
        loss.move_to(x)
        if inverse is None:
            state.pop("inverse_hessian", None)
        else:
            state["inverse_hessian"] = inverse
        return first_value

    def _search(self, loss: FlatLoss, x: Tensor, direction: Tensor, start: Point, *, first: bool) -> Point:
        settings = self.param_groups[0]

        def line(t: float) -> Point:
            value, gradient = loss.at(x + t * direction)
            return Point(t, value, float(gradient @ direction), gradient)

        # Before H is known a gradient has no natural scale: the first step goes no further than one unit.
        scale = min(1.0, 1.0 / float(start.gradient.abs().sum())) if first else 1.0
        return strong_wolfe(
            line,
            start,
            settings["lr"] * scale,
            c1=settings["c1"],
            c2=settings["c2"],
            max_trials=settings["max_trials"],
        )


def updated(inverse: Tensor | None, s: Tensor, y: Tensor) -> Tensor | None:
    """Return H' of eq. 6.17, in place: `H - s w^T - w s^T`, `w = rho H y - (1 + rho y^T H y) rho s / 2`.

    None stands for the identity that H starts as.
    """
    ys = float(y @ s)
    # `not >` instead of `<=`: a NaN skips the update as well.
    if not ys > torch.finfo(s.dtype).eps * float(y.norm() * s.norm()):
        return inverse
    if inverse is None:
        inverse = torch.diag((ys / (y @ y)).expand(len(s)))
    rho = 1.0 / ys
    w = rho * (inverse @ y)
    w -= 0.5 * (1.0 + float(y @ w)) * rho * s
    return inverse.addmm_(torch.stack([s, w], dim=1), torch.stack([w, s]), alpha=-1.0)
