"""torch's L-BFGS with weight decay, for parameters of any memory layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from tempo.optimizer.flat_loss import Closure, add_decay


class LBFGS(torch.optim.LBFGS):
    """Limited-memory BFGS with a strong Wolfe line search (Nocedal & Wright 2006, algorithms 7.4, 7.5, 3.5).

    `p = -H g` with H from the last `history_size` pairs `s = x' - x`, `y = g' - g`, and `x' = x + t p` with t
    from the line search. The pairs are kept from batch to batch, so batches should be large or full: a `y`
    across two small batches is mostly noise.

    Args:
        params: parameter groups.
        lr: the t that each line search tries first; 1 is the quasi-Newton step.
        weight_decay: of a group; adds `wd/2 |x|^2` to the loss.
        max_iter: iterations per `step`, on its batch.
        max_eval: evaluations of the loss per `step`; None is 5/4 `max_iter`.
        tolerance_grad, tolerance_change: a step ends early if no component of the gradient, or no change of
            parameters or loss, is larger.
        history_size: pairs that stand for H.
        line_search_fn: None takes t = lr without a search.
    """

    needs_closure: ClassVar[bool] = True

    def __init__(
        self,
        params: Sequence[dict[str, Any]],
        *,
        lr: float = 1.0,
        weight_decay: float = 0.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 10,
        line_search_fn: Literal["strong_wolfe"] | None = "strong_wolfe",
    ) -> None:
        # torch's class takes a single group: our groups differ in their decay, which is kept per parameter.
        self._decayed = [(p, float(group["weight_decay"])) for group in params for p in group["params"]]
        super().__init__(
            [parameter for parameter, _ in self._decayed],
            lr=lr,
            max_iter=max_iter,
            max_eval=max_eval,
            tolerance_grad=tolerance_grad,
            tolerance_change=tolerance_change,
            history_size=history_size,
            line_search_fn=line_search_fn,
        )
        self.param_groups[0]["weight_decay"] = weight_decay

    def step(self, closure: Closure) -> Tensor:  # type: ignore[override]
        """Take up to `max_iter` iterations; `closure` returns the loss and leaves gradients in `.grad`."""

        def decayed() -> Tensor:
            loss = add_decay(closure(), self._decayed)
            for parameter, _ in self._decayed:
                if parameter.grad is not None:
                    parameter.grad = parameter.grad.contiguous()  # torch flattens it as a view
            return loss

        loss = super().step(decayed)
        assert isinstance(loss, Tensor)
        return loss
