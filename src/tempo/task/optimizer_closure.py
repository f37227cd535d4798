"""Compute the loss of one step's batch as often as the optimizer asks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tempo.optimizer.capabilities import traits_of_class

Evaluate = Callable[[bool], tuple[list[Tensor], list[Tensor]]]
"""Function that returns losses and outputs of a step's micro-batches; given True, it also runs backward."""


class StepClosure:
    """The function that an optimizer calls for the mean loss over one step's batch.

    It leaves gradients in `.grad`, unless the optimizer takes second derivatives. In that case it makes no
    backward pass and returns the loss with its graph.

    Attributes:
        losses, outputs: results of the first call, before the step; one per micro-batch.
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
        """Return the mean loss over all ranks, so that all make the same decisions in a line search."""
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
        """Number of passes over the batch: calls, plus Hessian-vector products of the optimizer."""
        return self.calls + int(getattr(self.optimizer, "hessian_products", 0))
