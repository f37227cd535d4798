"""The loader alone: images per second of one core, with crop, flip and normalisation."""

from __future__ import annotations

import time

import torch
from conventional import conventional_loader
from jobs import SHAPED_LIKE_CIFAR10, built, composed_config
from rows import Row, Section, ratio

from tempo.run.build_data import Data, build_train_batches

_JOB = (*SHAPED_LIKE_CIFAR10, "data.train_images=22222", "data.test_images=10", "data.normalize=unit")
_DATALOADER_IMAGES = 1280


def measure(rounds: int) -> list[Row]:
    """Batches of tempo against torchvision's transforms in torch's DataLoader, by processor time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        config = composed_config(*_JOB, "trainer=cpu", "model=mlp")
        data, module = built(config)
        batches = build_train_batches(config, data, module)
        few = data.train.take(range(_DATALOADER_IMAGES))
        data_of_loader = Data(few, None, data.test, "")
        loader = conventional_loader(config, data_of_loader, module, config.data.total_batch_size)
        found: dict[str, list[float]] = {"tempo": [], "dataloader": []}
        for epoch in range(rounds + 1):
            batches.next_step = lambda epoch=epoch: epoch * module.plan.steps_per_epoch  # type: ignore[misc]
            begin, images = time.process_time(), 0
            for chunk in batches:
                images += len(module.train_preprocess(chunk.images, chunk.draws))
            speeds = {"tempo": images / (time.process_time() - begin)}
            begin = time.process_time()
            images = sum(len(labels) for _, labels in loader)
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


SECTIONS = [
    Section(
        "loader",
        "Images per second of processor time, one thread, in turn: an epoch of 20,000 images of 3x32x32 with "
        f"crop, flip and normalisation; {_DATALOADER_IMAGES:,} of them through the DataLoader.",
        measure,
    )
]
