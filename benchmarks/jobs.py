"""The training jobs of `make bench`, as a plain loop and as tempo runs them, in turn."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytorch_lightning as pl
import torch
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from torch import Tensor
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from tempo.config.check import check  # noqa: E402
from tempo.config.resolve_interpolations import composed  # noqa: E402
from tempo.config.schema import RunConfig  # noqa: E402
from tempo.data.run_data_module import ImageDataModule  # noqa: E402
from tempo.paths import register_resolvers  # noqa: E402
from tempo.record.run_json import RunRecord  # noqa: E402
from tempo.run import build_run  # noqa: E402
from tempo.run.build_batches import build_train_batches  # noqa: E402
from tempo.run.build_data import build_data, build_plan  # noqa: E402
from tempo.run.build_module import build_task  # noqa: E402
from tempo.run.run_request import RunRequest  # noqa: E402
from tempo.run.train import run  # noqa: E402
from tempo.task.classifier import Classifier  # noqa: E402

Config = RunConfig

ASK_NVML = "PYTORCH_NVML_BASED_CUDA_CHECK"
"""Set by `import pytorch_lightning`; each optimizer step of torch then looks for a GPU driver anew."""


@dataclass(frozen=True)
class BenchJob:
    """One row of the table: overrides of `src/train.py`, and the goals for the two ratios."""

    name: str
    overrides: tuple[str, ...]
    tempo_over_raw: float
    tempo_over_conventional: float | None
    conventional_steps: int
    epochs: int = 2
    """All but the first are measured."""

    def config(self, *overrides: str) -> Config:
        """Compose the job's configuration."""
        return composed_config(*self.overrides, "trainer=cpu", f"trainer.epochs={self.epochs}", *overrides)


def composed_config(*overrides: str) -> Config:
    """Compose and check the configuration of `src/train.py OVERRIDES`."""
    register_resolvers()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        node = hydra_compose("train", overrides=[*overrides, "hydra.run.dir=."], return_hydra_config=True)
    config = composed(node)
    return check(config)


SHAPED_LIKE_CIFAR10 = ("data=synthetic", "data.augment.crop_padding=4", "data.augment.flip=true")
SHAPED_LIKE_MNIST = (
    "data=synthetic",
    "data.channels=1",
    "data.image_size=28",
    "data.train_images=60000",
    "data.test_images=1000",
    "data.val_size=1000",
    "data.normalize=unit",
    "data.total_batch_size=32",
)
JOBS = (
    BenchJob("mnist2024", (*SHAPED_LIKE_MNIST, "model=mlp", "optimizer=adam"), 0.85, None, 300),
    BenchJob(
        "cnn",
        (
            *SHAPED_LIKE_CIFAR10,
            "data.train_images=6120",
            "data.test_images=1000",
            "data.val_size=1000",
            "model=cnn3",
        ),
        0.95,
        2.0,
        20,
    ),
    BenchJob(
        "resnet",
        (
            *SHAPED_LIKE_CIFAR10,
            "data.train_images=1536",
            "data.test_images=500",
            "data.val_size=256",
            "model=resnet20",
        ),
        0.97,
        1.1,
        12,
        epochs=3,
    ),
    BenchJob(
        "digits",
        ("data=digits", "data.total_batch_size=128", "model=densenet40"),
        0.97,
        None,
        8,
        epochs=3,
    ),
)


@dataclass
class Cost:
    """Seconds of the clock and of the processor, and the images that took them."""

    images: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    _since: tuple[float, float] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start the clocks."""
        self._since = (time.perf_counter(), time.process_time())

    def stop(self) -> None:
        """Stop the clocks if they run."""
        if self._since is not None:
            self.wall += time.perf_counter() - self._since[0]
            self.cpu += time.process_time() - self._since[1]
            self._since = None

    def values(self) -> dict[str, float]:
        """Return images per second by wall clock and by processor time."""
        return {"wall": self.images / self.wall, "cpu": self.images / self.cpu}


class PlainLoop:
    """The upper limit: plain PyTorch over preprocessed batches in memory, without logging."""

    def __init__(self, config: Config, device: str = "cpu", most_batches: int | None = None) -> None:
        data, module = built(config)
        self.device, self.precision = device, config.trainer.precision
        self.network = module.network.to(device).train()
        self.optimizer = module.build_optimizer(self.network)
        one_step = config.with_trainer(steps_per_call=1)
        batches = build_train_batches(one_step, data, module.progress, module.parameter_count)
        batches.next_step = lambda: 0
        self.ready = [
            (module.train_preprocess(batch.images, batch.draws).to(device), batch.labels.to(device))
            for batch in islice(batches, most_batches)
        ]
        self.forward: Callable[[Tensor], Tensor] = self.network
        self._next = 0

    def steps(self, number: int) -> int:
        """Take a number of steps and return the number of images."""
        images = 0
        for _ in range(number):
            inputs, labels = self.ready[self._next % len(self.ready)]
            self._next += 1
            self.step(inputs, labels)
            images += len(labels)
        return images

    def step(self, inputs: Tensor, labels: Tensor) -> None:
        """Take one step over one batch."""
        if self.precision == "bf16-mixed":
            with torch.autocast(self.device, torch.bfloat16, cache_enabled=False):
                loss = F.cross_entropy(self.forward(inputs), labels)
        else:
            loss = F.cross_entropy(self.forward(inputs), labels)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


class InTurn(pl.Callback):
    """Measure tempo's epochs from the second on, and after each of its chunks as many of the plain loop.

    A disturbance of the machine that lasts longer than a chunk affects both.
    """

    def __init__(self, plain: PlainLoop | None) -> None:
        self.plain = plain
        self.tempo, self.raw = Cost(), Cost()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Skip the first epoch."""
        self._measured = trainer.current_epoch > 0
        self._taken = trainer.global_step
        self._start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Switch from tempo's clock to the plain loop's and back."""
        self.tempo.stop()
        assert isinstance(pl_module, Classifier)
        steps, self._taken = trainer.global_step - self._taken, trainer.global_step
        if self._measured:
            self.tempo.images += steps * pl_module.plan.total_batch_size
        if self.plain is not None:
            setting = os.environ.pop(ASK_NVML, None)  # plain PyTorch does not set it
            self.raw.start()
            images = self.plain.steps(steps)
            if self._measured:
                self.raw.stop()
                self.raw.images += images
            if setting is not None:
                os.environ[ASK_NVML] = setting
        self._start()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock for validation."""
        self.tempo.stop()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock between two epochs."""
        self.tempo.stop()

    def _start(self) -> None:
        if self._measured:
            self.tempo.start()


def tempo_and_raw(config: Config) -> dict[str, dict[str, float]]:
    """Measure `src/train.py`'s own path with all its defaults, and the plain loop in turn."""
    clock = InTurn(PlainLoop(config))
    os.environ[ASK_NVML] = "1"  # as Lightning leaves it: tempo has to take it back itself
    train(config, clock)
    return {"raw": clock.raw.values(), "tempo": clock.tempo.values()}


def train(config: Config, *callbacks: pl.Callback) -> RunRecord:
    """Train in a temporary folder; `callbacks` are called after the recorder."""
    build_trainer = build_run.build_trainer

    def with_callbacks(
        config: Config, folder: Path, plan: Any, own: list[pl.Callback], *others: Any, **how: Any
    ) -> pl.Trainer:
        return build_trainer(config, folder, plan, [own[0], *callbacks, *own[1:]], *others, **how)

    with (
        temporary_folder() as folder,
        contextlib.redirect_stdout(io.StringIO()),
        patch.object(build_run, "build_trainer", with_callbacks),
    ):
        return run(RunRequest(config=changed(config, name="bench"), folder=folder, overrides=[], choices={}))


def changed(config: Config, **changes: Any) -> Config:
    """Return the configuration with other values: `changed(config, name="bench", trainer={"epochs": 2})`."""
    values = {
        key: {**config.values[key], **change} if isinstance(change, dict) else change
        for key, change in changes.items()
    }
    return check({**config.values, **values})


def built(config: Config) -> tuple[ImageDataModule, Classifier]:
    """Build data and module of one process."""
    data = build_data(config)
    task = build_task(config, data, build_plan(config, data, world_size=1, rank=0))
    assert isinstance(data, ImageDataModule)
    assert isinstance(task.module, Classifier)
    return data, task.module


def fresh_process() -> ProcessPoolExecutor:
    """Start a new process, in which malloc has the settings of glibc until something changes them."""
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder that is always removed, even while TensorBoard's writer still uses it."""
    folder = Path(tempfile.mkdtemp(prefix="tempo-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
