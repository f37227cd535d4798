"""A step's forward and backward passes as a CUDA graph: recorded once, then started by one call.

A small network's kernels are over before Python has asked for the next ones: the GPU waits. A graph holds
all of a step's kernels (Nguyen et al., "Accelerating PyTorch with CUDA Graphs", pytorch.org, 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from tempo.errors import UserError
from tempo.trainer.stepping import goes_straight_to_torch

MicroBatches = list[tuple[Tensor, Tensor]]
Passes = Callable[[MicroBatches], tuple[list[Tensor], list[Tensor]]]
"""Losses and outputs of a step's micro-batches; leaves their mean gradient in `.grad`."""

_OWN = "tempo.model."
_WARM_UP_PASSES = 2
_LOSS_TOLERANCE, _GRADIENT_TOLERANCE = 1e-3, 0.05
"""Relative: what two passes over one batch may differ by where kernels are not deterministic."""


def is_recorded(module: pl.LightningModule, setting: Literal["auto"] | bool) -> bool:
    """Whether the steps of `module` are graphs under `trainer.cuda_graph`.

    "auto" records on one GPU, where nothing watches single steps, networks of tempo's own: they do the same
    at each step. Of another's this is not known, and a graph repeats what Python decided once.

    Raises:
        UserError: true, and something needs each step from Python.
    """
    if not setting or module.device.type != "cuda":  # true without a GPU is refused before this
        return False
    network = module.network
    assert isinstance(network, nn.Module)
    plain = goes_straight_to_torch(module.trainer) and not module.needs_closure
    if setting == "auto":
        return plain and type(network).__module__.startswith(_OWN)
    if not plain:
        raise UserError(
            "trainer.cuda_graph=true: a callback watches single steps, which a graph does not stop for: "
            "trainer.cuda_graph=auto, or without the callback"
        )
    return True


class StepGraph:
    """`passes` for batches of one shape, without Python: the same kernels in the same order.

    The first call records, and holds the graph's loss and gradient against those of an ordinary pass.
    Recording changes neither the network's running statistics nor what is drawn later.

    Args:
        network: in training mode.
        passes: launches nothing that waits for the device; draws from its default generator alone.
        seed: brings that generator to where the step has it.

    Raises:
        UserError: the network cannot be recorded, or the graph computes something else than it.
    """

    def __init__(
        self, network: nn.Module, passes: Passes, seed: Callable[[], None], batch: MicroBatches
    ) -> None:
        self.network = network
        self.parameters = [each for each in network.parameters() if each.requires_grad]
        self._inputs = [tuple(torch.empty_like(each) for each in part) for part in batch]
        before = [each.clone() for each in network.buffers()]
        seed()
        losses, gradient = self._measured(passes(batch))
        self._restore(before)
        try:
            self._record(passes, batch, before)
        except RuntimeError as error:
            raise UserError(
                f"trainer.cuda_graph: {type(network).__name__} cannot be recorded "
                f"({str(error).splitlines()[0][:150]}): trainer.cuda_graph=false"
            ) from error
        seed()
        found_losses, found_gradient = self._measured(self(batch))
        self._restore(before)
        self._compare(found_losses, losses, _LOSS_TOLERANCE)
        self._compare(found_gradient, gradient, _GRADIENT_TOLERANCE)

    def __call__(self, batch: MicroBatches) -> tuple[list[Tensor], list[Tensor]]:
        """Losses and outputs of one step's micro-batches; gradients are in `.grad`."""
        for ours, given in zip(self._inputs, batch, strict=True):
            for target, source in zip(ours, given, strict=True):
                target.copy_(source)
        self._graph.replay()
        for parameter, gradient in zip(self.parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return [each.clone() for each in self._losses], [each.clone() for each in self._outputs]

    def _record(self, passes: Passes, batch: MicroBatches, before: Sequence[Tensor]) -> None:
        """Record over other images than the first step's: what depends on them in Python then shows."""
        for ours, given in zip(self._inputs, batch, strict=True):
            for target, source in zip(ours, given, strict=True):
                target.copy_(source.flip(0))
        inputs: MicroBatches = [(images, labels) for images, labels in self._inputs]
        # Libraries set themselves up, and a compiled network compiles, before anything is recorded.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP_PASSES):
                passes(inputs)
                self._forget_gradients()
        torch.cuda.current_stream().wait_stream(stream)
        self._restore(before)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._losses, self._outputs = passes(inputs)
        self._gradients = [each.grad for each in self.parameters]
        self._forget_gradients()

    def _measured(self, of_step: tuple[list[Tensor], list[Tensor]]) -> tuple[Tensor, Tensor]:
        """Losses and the whole gradient, copied."""
        gradients = [each.grad.flatten() for each in self.parameters if each.grad is not None]
        found = torch.stack(of_step[0]).float(), torch.cat(gradients).float()
        self._forget_gradients()
        return found

    def _compare(self, found: Tensor, expected: Tensor, tolerance: float) -> None:
        difference, size = float((found - expected).norm()), float(expected.norm())
        # A loss that is no number is for the watch over divergence.
        if difference > tolerance * size:
            raise UserError(
                f"trainer.cuda_graph: recorded, {type(self.network).__name__} computes something else "
                f"(off by {difference:.2g} of {size:.2g}): its forward pass decides in Python, which a graph "
                "does not repeat; trainer.cuda_graph=false"
            )

    def _forget_gradients(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def _restore(self, before: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for buffer, value in zip(self.network.buffers(), before, strict=True):
                buffer.copy_(value)
