"""Muon for the filters of convolutions and hidden matrices, SGD with Nesterov momentum for the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from tempo.errors import UserError

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic whose iteration brings singular values from (0, 1] near 1 (Jordan et al. 2024)."""


class MuonWithSGD(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) for filters, SGD for other parameters.

    With g the gradient plus weight_decay w, both rules have the momentum `v <- m v + g` and look ahead to
    `u = g + m v`. SGD steps by `-lr lr_of_rest u`. Muon reads u as a matrix with one row per filter, replaces
    its singular values by about 1 (`orthogonalized`) and steps by `-lr max(1, rows / columns)^(1/2)` times
    that. With `unit_filters`, a weight of n filters is first scaled to the norm n^(1/2), so that the rate is
    one relative to the weights; without, weights before a batch norm grow, and their rate falls. Muon trains
    filters, and matrices between the first weight and the last; SGD trains the last weight and all else.

    Args:
        params: parameter groups, in the order of the network.
        lr: of Muon.
        weight_decay: of both, coupled as in SGD.
        momentum: of Muon; a schedule that changes momentum changes that of both.
        sgd_momentum: of SGD.
        lr_of_rest: factor of the rate for SGD.
        ns_steps: Newton-Schulz iterations.
        unit_filters: whether Muon keeps the norm of each weight.

    Raises:
        UserError: the network has no such weight.
    """

    is_composed: ClassVar[bool] = True

    def __init__(
        self,
        params: Sequence[dict[str, Any]],
        *,
        lr: float = 0.15,
        weight_decay: float = 0.0,
        momentum: float = 0.6,
        sgd_momentum: float = 0.85,
        lr_of_rest: float = 0.5,
        ns_steps: int = 3,
        unit_filters: bool = True,
    ) -> None:
        weights = [parameter for group in params for parameter in group["params"] if parameter.ndim >= 2]
        hidden = {id(weight) for at, weight in enumerate(weights[:-1]) if at or weight.ndim > 2}
        if not hidden:
            raise UserError(
                "optimizer=muon_with_sgd is for filters, and for matrices between the first layer and the "
                "last, and this network has none; set model=small_vgg, or optimizer=nesterov"
            )
        of_muon = {"is_muon": True, "ns_steps": ns_steps, "unit_filters": unit_filters}
        groups: list[dict[str, Any]] = []
        for group in params:
            common = {name: value for name, value in group.items() if name != "params"}
            filters = [parameter for parameter in group["params"] if id(parameter) in hidden]
            rest = [parameter for parameter in group["params"] if id(parameter) not in hidden]
            scale = group.get("lr_scale", 1.0)
            groups.append({**common, "params": filters, **of_muon})
            of_sgd = {"is_muon": False, "momentum": sgd_momentum, "lr_scale": scale * lr_of_rest}
            groups.append({**common, "params": rest, **of_sgd})
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """Take a step; return the loss of `closure` if one is given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step_one(parameter, parameter.grad, group)
        return loss

    def _step_one(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        if group["weight_decay"]:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        velocity = state["momentum_buffer"].mul_(group["momentum"]).add_(gradient)
        ahead = gradient.add(velocity, alpha=group["momentum"])
        if not group["is_muon"]:
            parameter.add_(ahead, alpha=-group["lr"])
            return
        matrix = ahead.flatten(1)
        if group["unit_filters"]:
            parameter.mul_(len(matrix) ** 0.5 / parameter.norm().clamp(min=1e-12))
        update = orthogonalized(matrix, group["ns_steps"]).view(parameter.shape)
        parameter.add_(update, alpha=-group["lr"] * max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5)


def orthogonalized(matrix: Tensor, steps: int) -> Tensor:
    """Return U f(S) V' for a matrix U S V', with f(S) about 1: `steps` Newton-Schulz iterations.

    `X <- a X + (b A + c A^2) X` with `A = X X'`, from the matrix divided by its Frobenius norm. In bfloat16
    on GPUs, where it is enough and faster; otherwise in the matrix's own type.
    """
    a, b, c = _COEFFICIENTS
    x = matrix.bfloat16() if matrix.is_cuda else matrix
    is_tall = x.shape[0] > x.shape[1]
    x = x.T if is_tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if is_tall else x).to(matrix.dtype)
