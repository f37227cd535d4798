"""Backward pass, optimizer step and random seed of one step, bypassing Lightning if it adds nothing."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor

from tempo.task.lightning_internals import has_plain_precision, step_counter

Backward = Callable[[Tensor], None]
TakeStep = Callable[[], None]

_HOOKS = ("on_before_backward", "on_after_backward", "on_before_optimizer_step", "on_before_zero_grad")
_BATCH_HOOKS = ("on_train_batch_start", "on_train_batch_end")


def steps_of(module: pl.LightningModule, optimizer: LightningOptimizer) -> tuple[Backward, TakeStep]:
    """Return `backward(loss)` and `take_step()`, which increments `trainer.global_step`.

    Lightning's own versions take 0.3 ms on a CPU, as long as the step of a small network. They are needed for
    several devices, a loss scale, a profiler, or callbacks that watch single steps. Otherwise torch is called
    directly, with the same result.
    """
    if not goes_straight_to_torch(module.trainer):
        return module.manual_backward, optimizer.step
    inner: torch.optim.Optimizer = optimizer.optimizer
    counter = step_counter(module.trainer)

    def take_step() -> None:
        counter.increment_ready()
        module.on_before_optimizer_step(inner)
        inner.step()
        counter.increment_completed()

    return Tensor.backward, take_step


def stop_asking_for_gpus() -> None:
    """Undo a Lightning setting in a process that trains on the CPU.

    The setting is meant for processes that fork before using a GPU. It makes `torch.cuda.is_available()`,
    which torch's optimizers call at every step, load the driver's library each time: 0.04 to 0.2 ms.
    """
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)


def goes_straight_to_torch(trainer: pl.Trainer) -> bool:
    """Whether no strategy, loss scale, profiler or callback needs to act between two steps."""
    profiler, callbacks = trainer.profiler, trainer.callbacks  # type: ignore[attr-defined]
    return (
        has_plain_precision(trainer)
        and type(trainer.strategy) is SingleDeviceStrategy
        and isinstance(profiler, PassThroughProfiler)
        and not any(_overrides(callback, hook) for callback in callbacks for hook in _HOOKS)
    )


def watches_batches(callback: pl.Callback) -> bool:
    """Whether a callback must be called at each step."""
    return any(_overrides(callback, hook) for hook in (*_HOOKS, *_BATCH_HOOKS))


def _overrides(callback: pl.Callback, hook: str) -> bool:
    # Lightning's LambdaCallback has its hooks as attributes of the instance.
    return getattr(getattr(callback, hook), "__func__", None) is not getattr(pl.Callback, hook)
