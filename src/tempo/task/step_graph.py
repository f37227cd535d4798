"""A step's forward and backward passes as a CUDA graph: recorded once, then started by one call.

A small network's kernels are over before Python has asked for the next ones: the GPU waits. A graph holds
all of a step's kernels (Nguyen et al., "Accelerating PyTorch with CUDA Graphs", pytorch.org, 2021).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tempo.errors import UserError

MicroBatches = list[tuple[Tensor, Tensor]]
Passes = Callable[[MicroBatches], tuple[list[Tensor], list[Tensor]]]
"""Losses and outputs of a step's micro-batches; leaves their mean gradient in `.grad`."""

Measured = tuple[list[Tensor], list[Tensor]]
"""Gradients of a pass; its losses and what it leaves in the network's buffers."""

_FIXED = frozenset(
    f"tempo.model.{name}"
    for name in ("cifar_resnet", "cnn3", "densenet", "mlp", "smith_wide_resnet", "wide_resnet")
)
_WARM_UP_PASSES = 2
_TOLERANCE, _TOLERANCE_OF_GRADIENTS = 0.05, 0.3
"""What two passes over one batch may differ by, relative to a tensor's norm, where kernels need not give the
same bits. Gradients then are one vector: in bfloat16 other sums move those of ResNet-56's first layers by
more than half, all of them together by a tenth."""
_DETERMINISTIC_TOLERANCE, _SHARE_OF_LARGEST = 1e-5, 1e-3
"""Else; and relative to the largest gradient: a bias before batch normalization has one of noise alone."""


def is_recorded(
    setting: Literal["auto"] | bool, network: nn.Module, optimizer: torch.optim.Optimizer, *, straight: bool
) -> bool:
    """Whether steps on a GPU are graphs under `trainer.cuda_graph`; `straight` if nothing comes between them.

    Raises:
        UserError: true, and something needs each step from Python.
    """
    if setting == "auto":
        return straight and is_fixed(network, optimizer)
    if setting and (not straight or has_hooks(network)):
        raise UserError(
            "trainer.cuda_graph=true: a callback or hook watches single steps, which a graph does not stop "
            "for: trainer.cuda_graph=auto, or without it"
        )
    return setting


def is_fixed(network: nn.Module, optimizer: torch.optim.Optimizer) -> bool:
    """Whether each step is known to do the same, so that `auto` records it.

    So are tempo's own networks, of whatever parts of torch.nn, under optimizers of torch and of tempo. Of
    others this is not known: a graph repeats what Python decided once, and puts each gradient where the one
    before it was.
    """
    known = all(
        type(each).__module__.startswith("torch.nn.") or type(each).__module__ in _FIXED
        for each in network.modules()
    )
    ours = type(optimizer).__module__.startswith(("torch.optim.", "tempo.optimizer."))
    return known and ours and not has_hooks(network)


def has_hooks(network: nn.Module) -> bool:
    """Whether somebody is called when a part of the network is; a graph would do it once."""
    of_modules = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    of_tensors = ("_backward_hooks", "_post_accumulate_grad_hooks")
    return any(getattr(each, name, None) for each in network.modules() for name in of_modules) or any(
        getattr(each, name, None) for each in network.parameters() for name in of_tensors
    )


class StepGraph:
    """`passes` for batches of one shape, without Python: the same kernels in the same order.

    The first call records, and holds losses, gradients and buffers against those of an ordinary pass.
    Recording changes neither the network's running statistics nor what is
    drawn later.

    Args:
        network: in training mode.
        passes: launches nothing that waits for the device; draws from its default generator alone.
        seed: brings that generator to where the step has it.

    Raises:
        UserError: the network cannot be recorded, or the graph computes something else than it.
        torch.OutOfMemoryError: a graph keeps the memory of its activations for itself.
    """

    def __init__(
        self, network: nn.Module, passes: Passes, seed: Callable[[], None], batch: MicroBatches
    ) -> None:
        self.network = network
        self.parameters = [each for each in network.parameters() if each.requires_grad]
        self.made_of = parts_of(network)
        self._inputs = [tuple(torch.empty_like(each) for each in part) for part in batch]
        before = [each.clone() for each in network.buffers()]
        try:
            seed()
            expected = self._measured(passes(batch))
            self._restore(before)
            self._record(passes, batch, before)
            seed()
            deterministic = torch.are_deterministic_algorithms_enabled()
            if words := difference(self._measured(self(batch)), expected, deterministic=deterministic):
                self._refuse(words)
        finally:  # the step itself is still to come, also where it then goes without a graph
            self._forget_gradients()
            self._restore(before)

    def __call__(self, batch: MicroBatches) -> tuple[list[Tensor], list[Tensor]]:
        """Losses and outputs of one step's micro-batches; gradients are in `.grad`."""
        for ours, given in zip(self._inputs, batch, strict=True):
            for target, source in zip(ours, given, strict=True):
                assert target.shape == source.shape
                target.copy_(source)
        self._graph.replay()
        for parameter, gradient in zip(self.parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return [each.clone() for each in self._losses], [each.clone() for each in self._outputs]

    def _record(self, passes: Passes, batch: MicroBatches, before: Sequence[Tensor]) -> None:
        """Record over other images than the first step's: what depends on them in Python then shows."""
        for (images, labels), (given_images, given_labels) in zip(self._inputs, batch, strict=True):
            images.copy_(-given_images)
            labels.copy_(given_labels.roll(1, 0))
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
        try:
            with torch.cuda.graph(self._graph):
                self._losses, self._outputs = passes(inputs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise UserError(
                f"trainer.cuda_graph: {type(self.network).__name__} cannot be recorded "
                f"({str(_first_cause(error)).splitlines()[0][:150]}): trainer.cuda_graph=false"
            ) from error
        self._gradients = [each.grad for each in self.parameters]
        self._forget_gradients()

    def _measured(self, of_step: tuple[list[Tensor], list[Tensor]]) -> Measured:
        """Gradients, and losses with buffers, copied."""
        gradients = [each.grad.clone() for each in self.parameters if each.grad is not None]
        self._forget_gradients()
        others = [torch.stack(of_step[0]), *(each.clone() for each in self.network.buffers())]
        return gradients, others

    def _refuse(self, what: str) -> None:
        raise UserError(
            f"trainer.cuda_graph: recorded, {type(self.network).__name__} computes something else ({what}): "
            "its forward pass decides in Python, which a graph does not repeat; trainer.cuda_graph=false"
        )

    def _forget_gradients(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def _restore(self, before: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for buffer, value in zip(self.network.buffers(), before, strict=True):
                buffer.copy_(value)


def difference(found: Measured, expected: Measured, *, deterministic: bool) -> str:
    """What tells two passes over one batch apart, in words; "" where they have computed the same.

    `deterministic`: kernels give the same bits twice, so that each tensor can be held against its own.
    """
    if len(found[0]) != len(expected[0]):
        return "other gradients"
    gradients, others = (list(map(_distance, *pair)) for pair in zip(found, expected, strict=True))
    largest = max((size for _, size in gradients), default=0.0)
    if not deterministic:
        gradients = [
            (math.hypot(*(each for each, _ in gradients)), math.hypot(*(size for _, size in gradients)))
        ]
    tolerance = _DETERMINISTIC_TOLERANCE if deterministic else _TOLERANCE_OF_GRADIENTS
    of_others = _DETERMINISTIC_TOLERANCE if deterministic else _TOLERANCE
    floor = tolerance * _SHARE_OF_LARGEST * largest
    limits = [(*each, tolerance, floor) for each in gradients] + [(*each, of_others, 0.0) for each in others]
    for distance, size, relative, absolute in limits:
        # A loss that is no number is for the watch over divergence.
        if distance > relative * size + absolute:
            return f"off by {distance:.2g} of {size:.2g}"
    return ""


def _distance(one: Tensor, other: Tensor) -> tuple[float, float]:
    """Norm of the difference, and of `other`."""
    return float((one.double() - other.double()).norm()), float(other.double().norm())


def parts_of(network: nn.Module) -> list[Any]:
    """What a graph is bound to: where tensors lie, what is trained, which part is in training mode."""
    return [
        *((each.data_ptr(), each.requires_grad) for each in network.parameters()),
        *(each.data_ptr() for each in network.buffers()),
        *(each.training for each in network.modules()),
    ]


def _first_cause(error: BaseException) -> BaseException:
    """What failed in a recording; that it was broken off is said over it."""
    while error.__context__ is not None:
        error = error.__context__
    return error
