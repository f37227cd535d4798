"""Record a step's forward and backward passes once as a CUDA graph, then launch them with one call.

A small network's kernels finish before Python has launched the next ones, so the GPU waits. A graph launches
all kernels of a step at once (Nguyen et al., "Accelerating PyTorch with CUDA Graphs", pytorch.org, 2021).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tempo.errors import UserError

MicroBatches = list[tuple[Tensor, Tensor]]
Passes = Callable[[MicroBatches], tuple[list[Tensor], list[Tensor]]]
"""Returns losses and outputs of a step's micro-batches; leaves their mean gradient in `.grad`."""

Measured = tuple[list[Tensor], list[Tensor]]
"""Results of a pass: its gradients, then its losses and the values it leaves in the network's buffers."""

_WARM_UP_PASSES = 2
_TOLERANCE, _GRADIENT_TOLERANCE = 0.05, 0.3
"""Largest difference between two passes over one batch, relative to a tensor's norm, if kernels may give
different bits. All gradients then count as one vector: in bfloat16, another order of summing changes those
of the first layers of ResNet-56 by more than half, but all of them together by a tenth."""
_DETERMINISTIC_TOLERANCE, _SHARE_OF_LARGEST = 1e-5, 1e-3
"""The same tolerance for deterministic kernels; and the share of the largest gradient below which a
difference counts as noise, as does the whole gradient of a bias before batch normalization."""


def why_not_recorded(
    setting: Literal["auto"] | bool,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    straight: bool,
    others: Iterable[nn.Module] = (),
) -> str:
    """Return the reason why steps on a GPU are not recorded as a graph; empty if they are recorded.

    A graph repeats the decisions that Python made while it was recorded, and writes gradients to the same
    memory every time. So `auto` records only networks and optimizers whose classes are known to do the same
    in every step: those of torch and tempo, and any class with `static_graph = True` in its own body.
    A subclass does not inherit this setting, since its forward pass may decide differently.

    Args:
        setting: `trainer.cuda_graph`.
        straight: whether nothing has to run between two steps.
        others: further modules that a step calls: those of the loss.

    Raises:
        UserError: the setting is true, but Python code must run at each step.
    """
    if not setting:
        return "trainer.cuda_graph=false"
    if not straight or has_hooks(network):
        if setting == "auto":
            return "the strategy, a loss scale, a profiler, a callback or a hook needs Python at each step"
        raise UserError(
            "trainer.cuda_graph=true, but a callback or hook needs Python at each step; set "
            "trainer.cuda_graph=auto, or remove it"
        )
    if setting == "auto":
        for part in (*network.modules(), *others, optimizer):
            if not _is_static(type(part)):
                return f"the class {type(part).__name__} does not set static_graph = True"
    return ""


def _is_static(kind: type) -> bool:
    if kind.__module__.startswith(("torch.nn.", "torch.optim.", "tempo.optimizer.")):
        return True
    return bool(vars(kind).get("static_graph", False))  # not getattr: a subclass must not inherit it


def has_hooks(network: nn.Module) -> bool:
    """Whether a hook is registered on a module or parameter; a graph would call it only once."""
    of_modules = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    of_tensors = ("_backward_hooks", "_post_accumulate_grad_hooks")
    return any(getattr(module, name, None) for module in network.modules() for name in of_modules) or any(
        getattr(tensor, name, None) for tensor in network.parameters() for name in of_tensors
    )


class StepGraph:
    """A recording of `passes` for batches of one shape: the same kernels in the same order, without Python.

    The constructor records, then compares losses, gradients and buffers with those of an ordinary pass. It
    changes neither the network's running statistics nor later random numbers.

    Args:
        network: the network, in training mode.
        passes: must not wait for the device, and may draw random numbers only from its default generator.
        seed: seeds that generator for the step.

    Raises:
        UserError: the network cannot be recorded, or the graph's results differ from an ordinary pass.
        torch.OutOfMemoryError: the graph needs separate memory for its activations.
    """

    def __init__(
        self, network: nn.Module, passes: Passes, seed: Callable[[], None], batch: MicroBatches
    ) -> None:
        self.network = network
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.made_of = parts_of(network)
        self._inputs = [(torch.empty_like(images), torch.empty_like(labels)) for images, labels in batch]
        before = [buffer.clone() for buffer in network.buffers()]
        try:
            seed()
            expected = self._measured(passes(batch))
            self._restore(before)
            self._record(passes, batch, before)
            seed()
            deterministic = torch.are_deterministic_algorithms_enabled()
            if found := difference(self._measured(self(batch)), expected, deterministic=deterministic):
                raise UserError(
                    f"trainer.cuda_graph: the recorded steps of {type(network).__name__} compute "
                    f"something else ({found}), so its forward pass decides in Python; "
                    "set trainer.cuda_graph=false"
                )
        finally:  # the step itself comes next, with or without the graph
            self._forget_gradients()
            self._restore(before)

    def takes(self, batch: MicroBatches) -> bool:
        """Whether the images have the size of those that were recorded."""
        return all(
            images.shape == recorded.shape
            for (images, _), (recorded, _) in zip(batch, self._inputs, strict=True)
        )

    def __call__(self, batch: MicroBatches) -> tuple[list[Tensor], list[Tensor]]:
        """Return losses and outputs of one step's micro-batches; gradients are in `.grad`."""
        for recorded, given in zip(self._inputs, batch, strict=True):
            for target, source in zip(recorded, given, strict=True):
                assert target.shape == source.shape
                target.copy_(source)
        self._graph.replay()
        for parameter, gradient in zip(self.parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return [loss.clone() for loss in self._losses], [output.clone() for output in self._outputs]

    def _record(self, passes: Passes, batch: MicroBatches, before: Sequence[Tensor]) -> None:
        """Record with changed images, so that the comparison reveals Python decisions that depend on them."""
        for (images, labels), (given_images, given_labels) in zip(self._inputs, batch, strict=True):
            images.copy_(-given_images)
            labels.copy_(given_labels.roll(1, 0))
        # Libraries must initialise, and a compiled network must compile, before recording starts.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP_PASSES):
                passes(self._inputs)
                self._forget_gradients()
        torch.cuda.current_stream().wait_stream(stream)
        self._restore(before)
        self._graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(self._graph):
                self._losses, self._outputs = passes(self._inputs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise UserError(
                f"trainer.cuda_graph: {type(self.network).__name__} cannot be recorded "
                f"({str(_first_cause(error)).splitlines()[0][:150]}); set trainer.cuda_graph=false"
            ) from error
        self._gradients = [parameter.grad for parameter in self.parameters]
        self._forget_gradients()

    def _measured(self, of_step: tuple[list[Tensor], list[Tensor]]) -> Measured:
        """Return copies of the gradients, and of losses and buffers."""
        gradients = [parameter.grad.clone() for parameter in self.parameters if parameter.grad is not None]
        self._forget_gradients()
        others = [torch.stack(of_step[0]), *(buffer.clone() for buffer in self.network.buffers())]
        return gradients, others

    def _forget_gradients(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def _restore(self, before: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for buffer, value in zip(self.network.buffers(), before, strict=True):
                buffer.copy_(value)


def difference(found: Measured, expected: Measured, *, deterministic: bool) -> str:
    """Describe how two passes over one batch differ; empty if their results agree.

    `deterministic`: kernels give the same bits every time, so each gradient is compared separately.
    """
    if len(found[0]) != len(expected[0]):
        return "gradients of other parameters"
    gradients, others = (list(map(_distance, *pair)) for pair in zip(found, expected, strict=True))
    largest = max((size for _, size in gradients), default=0.0)
    gradient_tolerance, tolerance = _DETERMINISTIC_TOLERANCE, _DETERMINISTIC_TOLERANCE
    if not deterministic:
        gradient_tolerance, tolerance = _GRADIENT_TOLERANCE, _TOLERANCE
        distances, sizes = zip(*gradients, strict=True) if gradients else ((), ())
        gradients = [(math.hypot(*distances), math.hypot(*sizes))]
    noise = gradient_tolerance * _SHARE_OF_LARGEST * largest
    limits = [(distance, size, gradient_tolerance * size + noise) for distance, size in gradients]
    limits += [(distance, size, tolerance * size) for distance, size in others]
    for distance, size, limit in limits:
        if distance > limit:  # False for NaN: losses that are not finite are left to DivergenceWatch
            return f"off by {distance:.2g} of {size:.2g}"
    return ""


def _distance(one: Tensor, other: Tensor) -> tuple[float, float]:
    """Return the norm of the difference, and that of `other`."""
    return float((one.double() - other.double()).norm()), float(other.double().norm())


def parts_of(network: nn.Module) -> list[Any]:
    """Return the state that a graph depends on: addresses of tensors, `requires_grad` and training modes."""
    return [
        *((parameter.data_ptr(), parameter.requires_grad) for parameter in network.parameters()),
        *(buffer.data_ptr() for buffer in network.buffers()),
        *(module.training for module in network.modules()),
    ]


def _first_cause(error: BaseException) -> BaseException:
    """Return the original error of a failed recording; CUDA raises another on top when recording ends."""
    while error.__context__ is not None:
        error = error.__context__
    return error
