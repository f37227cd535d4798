"""Decode image files once, and read the cached array in later runs."""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import struct
import warnings
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from tempo.errors import UserError

_log = logging.getLogger(__name__)

# Part of the file's name: increase it if decoding changes.
_VERSION = 1
_BLOCK_IMAGES = 64
# What Pillow's readers raise on broken files.
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
# Pillow only warns from 90 million pixels on, of which a few images fill the memory.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


class File(NamedTuple):
    """A file's name relative to the tree's root, size in bytes and time of its last change."""

    name: str
    size: int
    mtime_ns: int


def load_images(
    root: Path, files: Sequence[File], *, channels: int, image_size: int | None, cache: Path
) -> np.ndarray:
    """Return the files' pixels, uint8 `[N, C, H, W]`, from the cache if it has them.

    The cache is a `.npy` file, named by the tree (path and options), the state of the files and a checksum of
    the content. It appears complete or not at all, and a damaged one is decoded again. If it cannot be
    written, a warning says so and the images stay in memory.

    Raises:
        UserError: an image cannot be read, or has another size than the first.
    """
    tree = _hex((str(root.resolve()), channels, image_size))
    state = _hex((_VERSION, [tuple(file) for file in files]))
    stem = f"{root.resolve().name}-{tree}"
    for path in sorted(cache.glob(f"{glob.escape(stem)}-{state}-*.npy")):
        images = _read(path, len(files), channels)
        if images is not None:
            return images
        _log.warning("%s is damaged: decoding the images again.", path)
    _log.info("Decoding %d images of %s, once.", len(files), root)
    images = decode(root, [file.name for file in files], channels=channels, image_size=image_size)
    _write(cache, stem, state, images)
    return images


def decode(root: Path, names: Sequence[str], *, channels: int, image_size: int | None) -> np.ndarray:
    """Return the files' pixels, uint8 `[N, C, H, W]`, decoded on all cores: Pillow releases Python's lock."""
    first = _decode(root / names[0], channels, image_size)
    images = np.empty((len(names), channels, *first.shape[:2]), dtype=np.uint8)

    def fill(start: int) -> None:
        for index in range(start, min(start + _BLOCK_IMAGES, len(names))):
            pixels = _decode(root / names[index], channels, image_size)
            if pixels.shape != first.shape:
                height, width = first.shape[:2]
                raise UserError(
                    f"{root / names[index]} is {pixels.shape[1]}x{pixels.shape[0]} pixels, but {names[0]} "
                    f"is {width}x{height}; set data.image_size={min(height, width)} to resize all"
                )
            images[index] = pixels.reshape(*pixels.shape[:2], channels).transpose(2, 0, 1)

    with ThreadPoolExecutor() as pool:
        try:
            # In blocks, because submitting one small image costs as much as decoding it.
            for _ in pool.map(fill, range(0, len(names), _BLOCK_IMAGES)):
                pass
        except UserError:
            pool.shutdown(cancel_futures=True)
            raise
    return images


def _decode(path: Path, channels: int, image_size: int | None) -> np.ndarray:
    """Return one image, uint8 `[H, W]` or `[H, W, 3]`, upright according to its EXIF orientation."""
    try:
        with Image.open(path) as opened:
            image: Image.Image = ImageOps.exif_transpose(opened)
            if image.mode in ("I", "F"):
                raise UserError(f"{path} has 32-bit pixels of unknown range; convert it to 8 or 16 bits")
            if image.mode.startswith("I;16"):
                # Pillow's conversion would clip at 255, to a white image.
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            if image.mode == "P" and "transparency" in image.info:
                image = image.convert("RGBA")
            image = image.convert("RGB" if channels == 3 else "L")
            if image_size is not None and image.size != (image_size, image_size):
                image = image.resize((image_size, image_size), Image.Resampling.BILINEAR)
            return np.asarray(image)
    except _UNREADABLE as error:
        raise UserError(f"{path} cannot be read as an image ({error}); repair or remove it") from error


def _read(path: Path, count: int, channels: int) -> np.ndarray | None:
    """Return the array in a cache file, or None if it does not match the file's name."""
    try:
        images = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    whole = images.dtype == np.uint8 and images.ndim == 4 and images.shape[:2] == (count, channels)
    return images if whole and path.stem.endswith(_checksum(images)) else None


def _write(cache: Path, stem: str, state: str, images: np.ndarray) -> None:
    """Write the array into the cache and remove the arrays of older states of the same tree."""
    path = cache / f"{stem}-{state}-{_checksum(images)}.npy"
    partial = cache / f".{path.name}.{os.getpid()}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as stream:
                np.save(stream, images, allow_pickle=False)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        for old in cache.glob(f"{glob.escape(stem)}-*.npy"):
            if old != path:
                old.unlink(missing_ok=True)
    except OSError as error:
        _log.warning(
            "The decoded images stay in memory only: %s cannot be written (%s); set data.cache=<folder>.",
            cache,
            error.strerror,
        )


def _hex(value: object) -> str:
    return hashlib.sha256(repr(value).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _checksum(images: np.ndarray) -> str:
    """Return the CRC-32 of the pixels: fast, and sufficient against damage."""
    return f"{zlib.crc32(np.ascontiguousarray(images).data):08x}"
