"""Training steps on one device: plain PyTorch eager, compiled, as a CUDA graph; tempo's path; the loader."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from jobs import Config, InTurn, PlainLoop, built, train
from rows import Row
from torch import Tensor

from tempo import compose

_READY_BATCHES = 8


class DeviceLoop(PlainLoop):
    """The plain loop in one of `MODES`.

    "compiled" and "reduce-overhead" are torch.compile's; "graph" captures the whole step once, the
    optimizer's included, and replays it.
    """

    MODES = ("eager", "compiled", "reduce-overhead", "graph")

    def __init__(self, config: Config, mode: str, device: str) -> None:
        super().__init__(config, device, _READY_BATCHES)
        if mode == "compiled":
            self.forward = torch.compile(self.network)
        elif mode == "reduce-overhead":
            self.forward = torch.compile(self.network, mode=mode)
        self._replay: Callable[[], None] | None = None
        if mode == "graph":
            self._capture()

    def _capture(self) -> None:
        self.inputs, self.labels = (each.clone() for each in self.ready[0])
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
        """One step over one batch."""
        if self._replay is None:
            return super().step(inputs, labels)
        self.inputs.copy_(inputs)
        self.labels.copy_(labels)
        return self._replay()


def wait_for(device: str) -> None:
    """Until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def raw_speed(config: Config, mode: str, device: str, *, rounds: int, steps: int) -> tuple[Row, Row]:
    """Images per second of the plain loop, and the seconds until its first three steps were done."""
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
    name = f"raw_{mode.replace('-', '_')}"
    return Row(name, "images/s", values), Row(f"{name}_warm_up", "s", [warm_up])


def tempo_speed(config: Config, name: str) -> Row:
    """Images per second of src/train.py's path, without its first epoch."""
    clock = InTurn(None)
    train(config, clock)
    return Row(f"tempo_{name}", "images/s", [clock.tempo.values()["wall"]])


def loader_speed(config: Config, device: str, rounds: int) -> Row:
    """Images per second of order, crop, flip and normalisation alone, where the images are."""
    data, module = built(config)
    data.train = compose.on_best_device(data.train, torch.device(device))
    batches = compose.build_train_batches(config, data, module)
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
