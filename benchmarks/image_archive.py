"""Read CIFAR-10's images from one archive of image files, without writing 60,000 files."""

from __future__ import annotations

import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image

from tempo.data.images import ImageData


def read_archive(path: Path, name: str) -> tuple[ImageData, ImageData]:
    """Return training and test images of `{train,test}/<class>/*` in a tar archive of any compression.

    Classes and files are in the order of their names, as `data=folder` has them.
    """
    files: dict[str, dict[str, list[tuple[str, bytes]]]] = {"train": {}, "test": {}}
    with tarfile.open(path) as archive:
        for member in archive:
            parts = PurePosixPath(member.name).parts[-3:]
            if member.isfile() and len(parts) == 3 and parts[0] in files:
                stream = archive.extractfile(member)
                assert stream is not None
                files[parts[0]].setdefault(parts[1], []).append((parts[2], stream.read()))
    classes = tuple(sorted(files["train"]))
    if not classes or classes != tuple(sorted(files["test"])):
        raise SystemExit(f"{path} does not hold train/<class>/* and test/<class>/* of the same classes")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts_of_set = []
        for part in files.values():
            labels = np.repeat(np.arange(len(classes)), [len(part[name]) for name in classes])
            images = np.stack(
                list(pool.map(_pixels, (data for name in classes for _, data in sorted(part[name]))))
            )
            parts_of_set.append(ImageData(torch.from_numpy(images), torch.from_numpy(labels), classes, name))
    train, test = parts_of_set
    return train, test


def _pixels(data: bytes) -> np.ndarray:
    """Decode a colour image to uint8 `[C, H, W]`."""
    with Image.open(BytesIO(data)) as image:
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1).copy()
