"""Places of decoded images: memory, a mapped file, and files that workers decode, next to torchvision's."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from jobs import InTurn, composed_config, train
from measurement import Row, Section, ratio
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from tempo.data.augment import Augment
from tempo.data.loader_data_module import LoaderDataModule
from tempo.run.build_data import build_data, build_plan

_SMALL_IMAGES, _SMALL_SIDE = 4096, 32
_IMAGES, _SIDE, _CROP, _BATCH = 1024, 224, 112, 64
_WORKERS = (0, 2)
_CLASSES = 4


def write_images(root: Path, count: int, side: int) -> None:
    """Write JPEG files of smooth random images, which take about as long to decode as photographs."""
    generator = np.random.default_rng(0)
    for number in range(count):
        coarse = generator.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
        folder = root / f"class{number % _CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
        image.save(folder / f"{number:05d}.jpg", quality=90)


def disk_and_memory(rounds: int) -> list[Row]:
    """Compare training on a mapped file with training on images in memory."""
    found: dict[str, list[float]] = {"memory": [], "disk": []}
    with tempfile.TemporaryDirectory() as folder:
        root, cache = Path(folder, "images"), Path(folder, "cache")
        write_images(root, _SMALL_IMAGES, _SMALL_SIDE)
        for number in range(rounds + 1):
            for store, speeds in found.items():
                config = composed_config(
                    "data=folder", f"data.root={root}", f"data.cache={cache}", f"data.store={store}",
                    "data.test_size=64", "data.val_size=64", "data.augment.flip=true", "model=cnn3",
                    "trainer=cpu", "trainer.epochs=2", "trainer.val_every_n_epochs=1000",
                    "optimizer.lr=0.001", "divergence.factor=null", "checkpoint.select=last",
                )  # fmt: skip
                clock = InTurn(None)
                train(config, clock)
                if number:  # the first round decodes, and fills the cache of the system
                    speeds.append(clock.tempo.values()["wall"])
    return [
        *(Row(store, "images/s", speeds) for store, speeds in found.items()),
        ratio("disk_over_memory", found["disk"], found["memory"], at_least=0.9),
    ]


def of_files(root: Path, workers: int) -> Callable[[int], float]:
    """Return a function that measures an epoch of `data.store=files` in images per second."""
    config = composed_config(
        "data=folder", f"data.root={root}", f"data.cache={root}-cache", "data.store=files",
        f"data.num_workers={workers}", f"data.total_batch_size={_BATCH}", "data.test_size=4",
        "data.val_size=0", "objective=train/loss", "checkpoint.select=last", "trainer=cpu", "model=mlp",
        f"data.transform=[{{_target_: torchvision.transforms.v2.RandomResizedCrop, size: {_CROP}}}, "
        "{_target_: torchvision.transforms.v2.RandomHorizontalFlip}]",
        f"data.eval_transform=[{{_target_: torchvision.transforms.v2.CenterCrop, size: {_CROP}}}]",
    )  # fmt: skip
    data = build_data(config)
    assert isinstance(data, LoaderDataModule)
    plan, epochs = build_plan(config, data, 1, 0), [0]
    data.connect(
        plan,
        lambda: epochs[0] * plan.steps_per_epoch,
        10**6,
        augment=Augment(**asdict(config.data.augment)),
    )

    def measure(epoch: int) -> float:
        epochs[0], begin = epoch, time.perf_counter()
        images = sum(len(chunk.labels) for chunk in data.train_dataloader())
        return images / (time.perf_counter() - begin)

    return measure


def of_image_folder(root: Path, workers: int) -> Callable[[int], float]:
    """Return a function that measures an epoch of torchvision's ImageFolder in a DataLoader."""
    transform = v2.Compose([v2.RandomResizedCrop(_CROP), v2.RandomHorizontalFlip(), v2.PILToTensor()])
    loader = DataLoader(
        ImageFolder(root, transform),
        batch_size=_BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )

    def measure(epoch: int) -> float:
        begin = time.perf_counter()
        images = sum(len(labels) for _, labels in loader)
        return images / (time.perf_counter() - begin)

    return measure


def files_and_image_folder(rounds: int) -> list[Row]:
    """Compare images that workers decode with those of torchvision's ImageFolder, with as many workers."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "images")
        write_images(root, _IMAGES, _SIDE)
        for workers in _WORKERS:
            ways = {"files": of_files(root, workers), "image_folder": of_image_folder(root, workers)}
            found: dict[str, list[float]] = {name: [] for name in ways}
            for epoch in range(rounds + 1):
                for name, measure in ways.items():
                    speed = measure(epoch)
                    if epoch:  # the first one starts the workers
                        found[name].append(speed)
            rows += [Row(f"{name}_{workers}_workers", "images/s", speeds) for name, speeds in found.items()]
            name = f"files_over_image_folder_{workers}_workers"
            rows.append(ratio(name, found["files"], found["image_folder"], at_least=1.0))
    return rows


SECTIONS = [
    Section(
        "store_disk",
        f"Images per second of src/train.py's path (cnn3, batch 128, flips) on {_SMALL_IMAGES:,} images of "
        f"3x{_SMALL_SIDE}x{_SMALL_SIDE}, in turn with data.store=disk and memory; the first epoch of a run "
        "does not count.",
        disk_and_memory,
    ),
    Section(
        "store_files",
        f"Images per second of an epoch of batches of {_BATCH}, decoded from {_IMAGES:,} JPEG files of "
        f"3x{_SIDE}x{_SIDE}, with random resized crops to {_CROP} pixels and flips, in turn: "
        "data.store=files, and torchvision's ImageFolder in a DataLoader. Workers stay; nothing is trained.",
        files_and_image_folder,
    ),
]
