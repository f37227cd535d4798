"""What grows with the data: images per second should not fall, the start-up no faster than the bytes."""

from __future__ import annotations

import time

from jobs import InTurn, changed, composed_config, train
from rows import Row, Section

from tempo.record.run_json import RunRecord

_SMALL = (
    "data=synthetic",
    "data.channels=1",
    "data.image_size=8",
    "data.test_images=100",
    "data.val_size=100",
    "data.total_batch_size=100",
    "model=mlp",
    "trainer=cpu",
    "data.augment.flip=true",
)
_SIZES = (1_000, 10_000, 100_000, 1_000_000)
_STEPS = 1_000
_BYTES = (25_000_000, 100_000_000, 400_000_000)
_SIDE = 50


def speeds(rounds: int) -> list[Row]:
    """Images per second on sets of 1,000 to 1,000,000 small images."""
    found: dict[int, list[float]] = {size: [] for size in _SIZES}
    for _ in range(rounds):
        for size in _SIZES:
            epochs = 1 + max(1, _STEPS * 100 // size)
            config = composed_config(
                *_SMALL,
                f"data.train_images={size + 100}",
                "trainer.val_every_n_epochs=1000",
                f"trainer.epochs={epochs}",
                "checkpoint.select=last",
            )
            if size == _SIZES[-1]:
                config = changed(config, trainer={"epochs": 2})
            clock = InTurn(None)
            train(config, clock)
            found[size].append(clock.tempo.values()["wall"])
    ratios = [min(values) / max(values) for values in zip(*found.values(), strict=True)]
    return [
        *(Row(f"images_{size}", "images/s", values) for size, values in found.items()),
        Row("slowest_over_fastest", "ratio", ratios, at_least=0.8),
    ]


def start_up(rounds: int) -> list[Row]:
    """Seconds before the first step for synthetic images of so many bytes."""
    found: dict[int, list[float]] = {size: [] for size in _BYTES}
    for _ in range(rounds):
        for size in _BYTES:
            images = size // (_SIDE * _SIDE)
            config = composed_config(
                "data=synthetic", "data.channels=1", f"data.image_size={_SIDE}",
                f"data.train_images={images}", "data.test_images=100", "data.val_size=100",
                "model=mlp", "trainer=cpu", "trainer.max_steps=1",
            )  # fmt: skip
            begin = time.perf_counter()
            record: RunRecord = train(config)
            found[size].append(min(time.perf_counter() - begin, record.seconds["startup"]))
    first, second, third = (found[size] for size in _BYTES)
    low, high = _BYTES[1] - _BYTES[0], _BYTES[2] - _BYTES[1]
    slopes = [((c - b) / high) / ((b - a) / low) for a, b, c in zip(first, second, third, strict=True)]
    return [
        *(Row(f"megabytes_{size // 1_000_000}", "s", values) for size, values in found.items()),
        Row("later_slope_over_first", "ratio", slopes, at_most=1.3),
    ]


SECTIONS = [
    Section(
        "growth",
        "Images per second of src/train.py's path (mlp, batch 100, flips) on sets of 1,000 to 1,000,000 "
        "images of 1x8x8; the first epoch does not count.",
        speeds,
    ),
    Section(
        "start_up",
        "Seconds from the call to the first step for 25, 100 and 400 MB of images; seconds a byte between "
        "the last two over those between the first two.",
        start_up,
    ),
]
