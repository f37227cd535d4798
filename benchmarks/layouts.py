"""Memory formats and precisions: steps of the plain loop in turn, and what bfloat16 costs in accuracy."""

from __future__ import annotations

import time

import torch
from jobs import SHAPED_LIKE_CIFAR10, PlainLoop, composed_config, train
from measurement import Row, Section, ratio

_IMAGES = {
    "mlp": ("data=synthetic", "data.channels=1", "data.image_size=28"),
    "cnn3": SHAPED_LIKE_CIFAR10,
    "resnet20": SHAPED_LIKE_CIFAR10,
    "densenet40": ("data=synthetic", "data.channels=1", "data.image_size=8"),
}
_SECONDS = 0.5
_SEEDS = 5


def in_turn(model: str, changes: dict[str, tuple[str, ...]], rounds: int) -> dict[str, list[float]]:
    """Measure images per second of the plain loop with every change of the configuration, in turn."""
    loops = {
        name: warm_loop(*_IMAGES[model], f"model={model}", *overrides) for name, overrides in changes.items()
    }
    found: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            found[name].append(images_per_second(loop))
    return found


def warm_loop(*overrides: str) -> PlainLoop:
    """Make a plain loop of batches of 128 and take its first steps."""
    sizes = ("data.train_images=1024", "data.test_images=10", "data.val_size=0.5")
    config = composed_config(*overrides, *sizes, "trainer=cpu")
    loop = PlainLoop(config)
    loop.steps(3)
    return loop


def images_per_second(loop: PlainLoop) -> float:
    """Measure images per second for half a second."""
    begin, images = time.perf_counter(), 0
    while time.perf_counter() - begin < _SECONDS:
        images += loop.steps(1)
    return images / (time.perf_counter() - begin)


def memory_formats(rounds: int) -> list[Row]:
    """Compare channels_last with the contiguous format."""
    rows = []
    for model in _IMAGES:
        found = in_turn(
            model,
            {"on": ("trainer.channels_last=true",), "off": ("trainer.channels_last=false",)},
            rounds,
        )
        rows.append(Row(f"{model}_channels_last", "images/s", found["on"]))
        rows.append(ratio(f"{model}_gain", found["on"], found["off"]))
    return rows


def bfloat16(rounds: int) -> list[Row]:
    """Compare `trainer=cpu_bf16` with float32: speed, and accuracy of short runs of cnn3 on the digits."""
    rows = []
    for model in _IMAGES:
        found = in_turn(model, {"bf16": ("trainer.precision=bf16-mixed",), "float32": ()}, rounds)
        rows.append(Row(f"{model}_bf16", "images/s", found["bf16"]))
        rows.append(ratio(f"{model}_gain", found["bf16"], found["float32"]))
    accuracies: dict[str, list[float]] = {"trainer=cpu": [], "trainer=cpu_bf16": []}
    for seed in range(_SEEDS):
        for trainer, values in accuracies.items():
            config = composed_config(
                "data=digits", "model=cnn3", "optimizer=adam", trainer, "trainer.epochs=5", f"seed={seed}"
            )
            values.append(100 * train(config).metrics["test"]["accuracy"])
    float32, short = accuracies.values()
    return [
        *rows,
        Row("float32_accuracy", "% test", float32),
        Row("bf16_accuracy", "% test", short),
        Row("accuracy_cost", "points", [a - b for a, b in zip(float32, short, strict=True)]),
    ]


def _processor() -> str:
    flags = torch.cpu._is_amx_tile_supported() if hasattr(torch.cpu, "_is_amx_tile_supported") else False
    return "with" if flags else "without"


SECTIONS = [
    Section(
        "channels_last",
        "Images per second of the plain loop, batch 128, half a second each in turn; cnn3 and resnet20 on "
        "3x32x32, mlp on 28x28, densenet40 on 8x8.",
        memory_formats,
    ),
    Section(
        "bf16",
        f"As channels_last, bf16-mixed against float32, on a processor {_processor()} AMX; test accuracy of "
        f"cnn3, 5 epochs of the digits, {_SEEDS} seeds.",
        bfloat16,
    ),
]
