"""Training steps on one device: plain PyTorch eager, compiled, as a CUDA graph; tempo's path; the loader."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytorch_lightning as pl
import torch
from jobs import Config, PlainLoop, built, train
from measurement import Row
from torch import Tensor

from tempo.run.build_batches import build_train_batches
from tempo.run.build_data import move_to_best_device
from tempo.task.classifier import Classifier
from tempo.trainer.process_settings import set_numerics

_READY_BATCHES = 8


MODES = ("eager", "graph", "compiled", "compiled_graph")


class DeviceLoop(PlainLoop):
    """The plain loop in one of `MODES`.

    "compiled" is torch.compile's default; "graph" captures the whole step once, the optimizer's included, and
    replays it; "compiled_graph" is both.
    """

    def __init__(self, config: Config, mode: str, device: str) -> None:
        trainer = config.trainer
        set_numerics(deterministic=trainer.deterministic, matmul_precision=trainer.matmul_precision)
        torch.use_deterministic_algorithms(trainer.deterministic)
        super().__init__(config, device, _READY_BATCHES)
        if mode.startswith("compiled"):
            torch.compiler.reset()
            self.forward = torch.compile(self.network)
        self._replay: Callable[[], None] | None = None
        if mode.endswith("graph"):
            self._capture()

    def _capture(self) -> None:
        self.inputs, self.labels = (tensor.clone() for tensor in self.ready[0])
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                super().step(self.inputs, self.labels)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            super().step(self.inputs, self.labels)
        self._replay = graph.replay

    def step(self, inputs: Tensor, labels: Tensor) -> None:
        """Take one step over one batch."""
        if self._replay is None:
            return super().step(inputs, labels)
        self.inputs.copy_(inputs)
        self.labels.copy_(labels)
        return self._replay()


def wait_for(device: str) -> None:
    """Wait until the device has finished its work."""
    if device == "cuda":
        torch.cuda.synchronize()


def raw_speed(config: Config, mode: str, device: str, *, rounds: int, steps: int) -> tuple[Row, Row]:
    """Measure images per second of the plain loop, and the seconds of its first three steps."""
    begin = time.perf_counter()
    loop = DeviceLoop(config, mode, device)
    loop.steps(3)
    wait_for(device)
    warm_up = time.perf_counter() - begin
    values = []
    for _ in range(rounds):
        begin = time.perf_counter()
        images = loop.steps(steps)
        wait_for(device)
        values.append(images / (time.perf_counter() - begin))
    name = f"raw_{mode}"
    return Row(name, "images/s", values), Row(f"{name}_warm_up", "s", [warm_up])


class EpochClock(pl.Callback):
    """Images per second of every epoch except the first, until the device has finished it."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock when the device is idle."""
        wait_for(pl_module.device.type)
        self._since = time.perf_counter(), trainer.global_step

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock; called after the recorder, whose rows count."""
        assert isinstance(pl_module, Classifier)
        wait_for(pl_module.device.type)
        begin, step = self._since
        images = (trainer.global_step - step) * pl_module.plan.total_batch_size
        if trainer.current_epoch:
            self.values.append(images / (time.perf_counter() - begin))


def tempo_speed(config: Config, name: str) -> Row:
    """Measure images per second of src/train.py's path, epoch by epoch, without the first."""
    clock = EpochClock()
    train(config, clock)
    return Row(f"tempo_{name}", "images/s", clock.values)


def loader_speed(config: Config, device: str, rounds: int) -> Row:
    """Measure images per second of order, crop, flip and normalisation alone, on the device of the images."""
    data, module = built(config)
    move_to_best_device(data, torch.device(device))
    batches = build_train_batches(config, data, module.progress, module.parameter_count)
    values = []
    for epoch in range(rounds + 1):
        batches.next_step = lambda epoch=epoch: epoch * module.plan.steps_per_epoch  # type: ignore[misc]
        wait_for(device)
        begin, images = time.perf_counter(), 0
        for chunk in batches:
            images += len(module.train_preprocess(chunk.images, chunk.draws))
        wait_for(device)
        if epoch:
            values.append(images / (time.perf_counter() - begin))
    return Row("loader", "images/s", values)
