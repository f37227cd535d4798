"""Speed of whole training jobs, of the loader alone, and of jobs whose data grows."""

from __future__ import annotations

import time
from functools import partial

import torch
from conventional import conventional, conventional_loader
from jobs import (
    JOBS,
    SHAPED_LIKE_CIFAR10,
    BenchJob,
    InTurn,
    built,
    changed,
    composed_config,
    fresh_process,
    tempo_and_raw,
    train,
)
from measurement import Row, Section, ratio

from tempo.data.run_data_module import ImageDataModule
from tempo.record.run_json import RunRecord
from tempo.run.build_batches import build_train_batches

_LOADER_JOB = (*SHAPED_LIKE_CIFAR10, "data.train_images=22222", "data.test_images=10", "data.normalize=unit")
_DATALOADER_IMAGES = 1280
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
PROTOCOL = (
    "A round is a run of src/train.py's own path for two or three epochs, of which the first does not count, "
    "validation off the clock; after each chunk as many steps of the plain loop; then the template's script, "
    "in a process of its own."
)


def jobs(job: BenchJob, rounds: int) -> list[Row]:
    """Measure speeds and their ratios, by the clock and by processor time."""
    config = job.config()
    found: dict[str, list[dict[str, float]]] = {"raw": [], "tempo": [], "conventional": []}
    for _ in range(rounds):
        both = tempo_and_raw(config)
        # One for each round: malloc's threshold moves, and a second script would find that of the first.
        with fresh_process() as apart:
            both["conventional"] = apart.submit(conventional, config, job.conventional_steps).result()
        for way, speeds in both.items():
            found[way].append(speeds)
    wall = {way: [speed["wall"] for speed in speeds] for way, speeds in found.items()}
    cpu = {way: [speed["cpu"] for speed in speeds] for way, speeds in found.items()}
    over_raw, over_conventional = job.tempo_over_raw, job.tempo_over_conventional
    return [
        *(Row(way, "images/s", speeds) for way, speeds in wall.items()),
        ratio("tempo_over_raw", wall["tempo"], wall["raw"], at_least=over_raw),
        ratio("tempo_over_conventional", wall["tempo"], wall["conventional"], at_least=over_conventional),
        ratio("raw_over_conventional", wall["raw"], wall["conventional"]),
        ratio("tempo_over_raw_cpu_time", cpu["tempo"], cpu["raw"]),
        ratio("tempo_over_conventional_cpu_time", cpu["tempo"], cpu["conventional"]),
    ]


def loader(rounds: int) -> list[Row]:
    """Compare batches of tempo with torchvision's transforms in torch's DataLoader, by processor time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        config = composed_config(*_LOADER_JOB, "trainer=cpu", "model=mlp")
        data, module = built(config)
        batches = build_train_batches(config, data, module.progress, module.parameter_count)
        few = data.train.take(range(_DATALOADER_IMAGES))
        data_of_loader = ImageDataModule(few, None, data.test, "")
        dataloader = conventional_loader(config, data_of_loader, module, config.data.total_batch_size)
        found: dict[str, list[float]] = {"tempo": [], "dataloader": []}
        for epoch in range(rounds + 1):
            batches.next_step = lambda epoch=epoch: epoch * module.plan.steps_per_epoch  # type: ignore[misc]
            begin, images = time.process_time(), 0
            for chunk in batches:
                images += len(module.train_preprocess(chunk.images, chunk.draws))
            speeds = {"tempo": images / (time.process_time() - begin)}
            begin = time.process_time()
            images = sum(len(labels) for _, labels in dataloader)
            speeds["dataloader"] = images / (time.process_time() - begin)
            for name, speed in speeds.items():
                if epoch:  # the first one warms up
                    found[name].append(speed)
    finally:
        torch.set_num_threads(threads)
    return [
        *(Row(name, "images/s a core", values) for name, values in found.items()),
        ratio("tempo_over_dataloader", found["tempo"], found["dataloader"], at_least=10),
    ]


def growth(rounds: int) -> list[Row]:
    """Measure images per second on sets of 1,000 to 1,000,000 small images."""
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
        Row("slowest_over_fastest", "ratio", ratios),
    ]


def start_up(rounds: int) -> list[Row]:
    """Measure the seconds before the first step for more and more bytes of images."""
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
    *(Section(job.name, PROTOCOL, partial(jobs, job)) for job in JOBS),
    Section(
        "loader",
        "Images per second of processor time, one thread, in turn: an epoch of 20,000 images of 3x32x32 with "
        f"crop, flip and normalisation; {_DATALOADER_IMAGES:,} of them through the DataLoader.",
        loader,
    ),
    Section(
        "growth",
        "Images per second of src/train.py's path (mlp, batch 100, flips) on sets of 1,000 to 1,000,000 "
        "images of 1x8x8; the first epoch does not count.",
        growth,
    ),
    Section(
        "start_up",
        "Seconds from the call to the first step for 25, 100 and 400 MB of images; seconds a byte between "
        "the last two over those between the first two.",
        start_up,
    ),
]
