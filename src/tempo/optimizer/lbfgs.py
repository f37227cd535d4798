"""L-BFGS: torch's own, with weight decay and any memory layout of the parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from tempo.optimizer.objective import Closure, add_decay


class LBFGS(torch.optim.LBFGS):
    """Limited-memory BFGS with a strong Wolfe line search (Nocedal & Wright 2006, algorithms 7.4, 7.5, 3.5).

    `p = -H g`, H from the last `history_size` pairs `s = x' - x`, `y = g' - g`; `x' = x + t p`, t from the
    line search. One `step` takes up to `max_iter` such iterations on its batch, with at most `max_eval`
    evaluations (null = 5/4 `max_iter`). `lr` is the first t that each line search tries: 1 is Newton's step.
    The pairs live on from batch to batch, so batches should be large or full: a `y` across two small batches
    is mostly their noise.

    `weight_decay` adds `wd/2 |p|^2` to the loss, for each group its own.
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
        # torch's takes one group; what tells ours apart, the decay, is kept a parameter at a time.
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
        """Up to `max_iter` iterations; `closure` computes the loss anew and leaves gradients in `.grad`."""

        def decayed() -> Tensor:
            loss = add_decay(closure(), self._decayed)
            for parameter, _ in self._decayed:
                if parameter.grad is not None:
                    parameter.grad = parameter.grad.contiguous()  # torch flattens it as a view
            return loss

        loss = super().step(decayed)
        assert isinstance(loss, Tensor)
        return loss
