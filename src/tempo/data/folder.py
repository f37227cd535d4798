"""The user's own image files, one folder per class."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image

from tempo.data.image_cache import File, load_images
from tempo.data.images import ImageData
from tempo.data.split import stratified
from tempo.errors import UserError, nearest


@dataclass(frozen=True)
class _Tree:
    """The files of one tree `root/<class>/*`, in the order of class and name."""

    root: Path
    files: list[File]
    labels: np.ndarray
    classes: tuple[str, ...]


def folder(
    *,
    root: str,
    image_size: int | None,
    channels: Literal[1, 3],
    test_size: int | float,
    test_seed: int,
    cache: str,
) -> tuple[ImageData, ImageData]:
    """Return training and test images from the trees `root/train/<class>/*` and `root/test/<class>/*`.

    Without the folders `train` and `test`, the single tree `root/<class>/*` is split, stratified. Any format
    that Pillow reads works, also in deeper folders; hidden files and other formats are skipped. Images are
    decoded once: later runs read the array from `cache` if names, sizes and times of all files are the same.

    Args:
        root: folder of the images.
        image_size: height and width in pixels to resize each image to (bilinear, antialiased, without keeping
            the aspect ratio), or None if all have the same size.
        channels: 3 for colour, 1 for grey.
        test_size: test images of a single tree: a fraction in (0, 1) or a number.
        test_seed: of that split only.
        cache: folder of the decoded arrays.

    Raises:
        UserError: there are no images, a class is empty, train and test have other classes, or an image
            cannot be read or has another size than the first.
    """
    base, store = Path(root).expanduser(), Path(cache).expanduser()
    if image_size is not None and image_size < 1:
        raise UserError(
            f"data.image_size={image_size} is not a size in pixels; set for example data.image_size=32"
        )
    if not base.is_dir():
        raise UserError(f"data.root={base} is not a folder; point data.root or TEMPO_DATA to your images")
    size = (channels, image_size)
    if not any(_has_classes(base / part) for part in ("train", "test")):
        tree = _scan(base, store)
        whole = _load(tree, base.resolve().name, *size, store)
        return _split(whole, tree.labels, test_size, test_seed)
    for part, other in (("train", "test"), ("test", "train")):
        if not (base / part).is_dir():
            raise UserError(
                f"{base} has a folder '{other}' but no '{part}'; add it, "
                f"or split a single tree with data.root={base / other}"
            )
    train, test = _scan(base / "train", store), _scan(base / "test", store)
    _same_classes(train, test)
    name = base.resolve().name
    parts = _load(train, name, *size, store), _load(test, name, *size, store)
    if parts[0].shape != parts[1].shape:
        sizes = [f"{part.shape[2]}x{part.shape[1]}" for part in parts]
        raise UserError(
            f"images of {train.root} are {sizes[0]} pixels, those of {test.root} {sizes[1]}; "
            f"set data.image_size={min(parts[0].shape[1:])} to resize all"
        )
    return parts


def _has_classes(path: Path) -> bool:
    """Return whether `path` contains folders; a class that is called train contains images."""
    return path.is_dir() and any(child.is_dir() for child in path.iterdir())


def _load(tree: _Tree, name: str, channels: int, image_size: int | None, cache: Path) -> ImageData:
    images = load_images(tree.root, tree.files, channels=channels, image_size=image_size, cache=cache)
    return ImageData(torch.from_numpy(images), torch.from_numpy(tree.labels), tree.classes, name)


def _split(
    whole: ImageData, labels: np.ndarray, test_size: int | float, test_seed: int
) -> tuple[ImageData, ImageData]:
    """Return the training and the test images of a single tree."""
    count = round(test_size * len(whole)) if isinstance(test_size, float) else test_size
    if not 0 < count < len(whole):
        raise UserError(
            f"data.test_size={test_size} of {len(whole)} images leaves nothing to test or to train on; "
            "set for example data.test_size=0.2"
        )
    test = stratified(labels, count, test_seed)
    train = np.setdiff1d(np.arange(len(whole)), test, assume_unique=True)
    return whole.take(train), whole.take(test)


def _same_classes(train: _Tree, test: _Tree) -> None:
    for one, other in ((test, train), (train, test)):
        for name in one.classes:
            if name not in other.classes:
                raise UserError(
                    f"class '{name}' of {one.root} is not in {other.root}; both need the same class folders."
                    + nearest(name, set(other.classes) - set(one.classes))
                )


def _scan(root: Path, cache: Path) -> _Tree:
    """Return the images of each class with their sizes and times, without opening them."""
    known = {ext for ext, form in Image.registered_extensions().items() if form in Image.OPEN} | {""}
    skip = cache.resolve()
    classes = sorted(
        child.name
        for child in root.iterdir()
        if child.is_dir() and not child.name.startswith(".") and child.resolve() != skip
    )
    if not classes:
        raise UserError(f"{root} has no class folders; put the images in {root}/<class>/, or set data.root")
    files: list[File] = []
    counts = []
    for name in classes:
        everything = sorted(_walk(root / name, f"{name}/"))
        found = [file for file in everything if _suffix(file.name) in known]
        if not found:
            seen = f" (Pillow does not read the format of {everything[0].name})" if everything else ""
            raise UserError(f"class folder {root / name} has no images{seen}; add some or remove the folder")
        files += found
        counts.append(len(found))
    return _Tree(root, files, np.repeat(np.arange(len(classes)), counts), tuple(classes))


def _suffix(name: str) -> str:
    """Return Path.suffix in lower case; making 60,000 Paths would take half of the time of a second start."""
    _, dot, extension = name.rpartition("/")[2].rpartition(".")
    return dot + extension.lower() if dot else ""


def _walk(path: Path, prefix: str) -> Iterator[File]:
    """Yield the files below `path` but hidden ones; links to folders, which can form loops, are skipped."""
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield from _walk(Path(entry.path), f"{prefix}{entry.name}/")
                elif entry.is_file():
                    status = entry.stat()
                    yield File(prefix + entry.name, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
