"""The loss of one step's batch, computed as often as the optimizer asks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tempo.optimizer.capabilities import traits_of_class

Evaluate = Callable[[bool], tuple[list[Tensor], list[Tensor]]]
"""Returns losses and outputs of a step's micro-batches, after a backward pass if its argument is true."""


class StepClosure:
    """The function that an optimizer calls for the mean loss over one step's batch.

    It leaves gradients in `.grad`, unless the optimizer takes second derivatives: then the loss comes with
    its graph, and no backward pass is made.

    Attributes:
        losses, outputs: those of the first call, one per micro-batch; the step started from them.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        evaluate: Evaluate,
        mean_over_ranks: Callable[[Tensor], Tensor],
    ) -> None:
        self.optimizer = optimizer
        self.evaluate = evaluate
        self.mean_over_ranks = mean_over_ranks
        self.backward = not traits_of_class(type(optimizer)).takes_second_derivatives
        self.losses: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.calls = 0

    def __call__(self) -> Tensor:
        """Return the mean loss over all ranks, which must take the same decisions in a line search."""
        self.calls += 1
        self.optimizer.zero_grad()
        losses, outputs = self.evaluate(self.backward)
        if not self.losses:
            self.losses = [loss.detach() for loss in losses]
            self.outputs = [output.detach() for output in outputs]
        mean = torch.stack(losses).mean()
        return self.mean_over_ranks(mean.detach()) if self.backward else mean

    @property
    def evaluations(self) -> int:
        """Passes over the batch: calls, and Hessian-vector products of the optimizer."""
        return self.calls + int(getattr(self.optimizer, "hessian_products", 0))
