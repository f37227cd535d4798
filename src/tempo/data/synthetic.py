"""Random images, to measure speed and to try things out."""

from __future__ import annotations

import numpy as np
import torch

from tempo.data.images import ImageData
from tempo.errors import UserError

_BLOCK_IMAGES = 4096


def synthetic(
    *,
    image_size: int,
    channels: int,
    classes: int,
    train_images: int,
    test_images: int,
    seed: int,
    learnable: bool,
) -> tuple[ImageData, ImageData]:
    """Return training and test images of uniform noise with random labels.

    Args:
        image_size: height and width in pixels.
        channels: 1 for grey, 3 for colour, or any other number.
        classes: number of classes.
        train_images: images for training (validation is cut from them).
        test_images: images for test.
        seed: of the images; independent of the seed of the run.
        learnable: whether each image is the mean of its class's prototype and its own noise, so that a
            network can learn the classes; otherwise it can only memorize labels.

    Raises:
        UserError: a size below 1.
    """
    for key, value in (
        ("image_size", image_size),
        ("channels", channels),
        ("classes", classes),
        ("train_images", train_images),
        ("test_images", test_images),
    ):
        if value < 1:
            raise UserError(f"data.{key}={value} must be 1 or more; set for example data.{key}=10")
    shape = (channels, image_size, image_size)
    # SFC64 is the fastest of numpy's generators, and its raw words do not change between versions.
    rng = np.random.SFC64(np.random.SeedSequence(seed % 2**64))
    prototypes = _bytes(rng, (classes, *shape)) if learnable else None
    names = tuple(str(index) for index in range(classes))
    name = f"synthetic-{image_size}x{image_size}x{channels}"

    def part(count: int) -> ImageData:
        images = _bytes(rng, (count, *shape))
        labels = (rng.random_raw(count) % np.uint64(classes)).astype(np.int64)
        if prototypes is not None:
            for start in range(0, count, _BLOCK_IMAGES):
                block = images[start : start + _BLOCK_IMAGES]
                block >>= 1
                block += prototypes[labels[start : start + _BLOCK_IMAGES]] >> 1
        note = "random images: accuracies mean nothing"
        return ImageData(torch.from_numpy(images), torch.from_numpy(labels), names, name, note)

    return part(train_images), part(test_images)


def _bytes(rng: np.random.SFC64, shape: tuple[int, ...]) -> np.ndarray:
    """Return uniform uint8 values of any shape, without an intermediate copy."""
    count = int(np.prod(shape, dtype=np.int64))
    words: np.ndarray = rng.random_raw(-(-count // 8))
    return words.view(np.uint8)[:count].reshape(shape)
