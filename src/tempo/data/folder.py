"""The user's own image files, in folders named after their classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import ImageColor

from tempo.data.decode_image import Decoding
from tempo.data.duplicate_images import Duplicates, find_duplicates
from tempo.data.folder_listing import Layout, Listing, list_images
from tempo.data.folder_names import shown
from tempo.data.image_cache import Losses, load_images
from tempo.data.images import ImageData
from tempo.data.split import stratified
from tempo.errors import UserError, printable

_MEGA = 1_000_000


def folder(
    *,
    root: str,
    image_size: int | None,
    channels: Literal[1, 3],
    test_size: int | float,
    test_seed: int,
    cache: str,
    layout: Layout = "auto",
    background: str = "white",
    max_megapixels: int | float = 89,
) -> tuple[ImageData, ...]:
    """Return training and test images, and validation images if there is a folder of them.

    Reads the trees `root/train/<class>/*`, `root/test/<class>/*` and `root/val/<class>/*`, or the single tree
    `root/<class>/*`; `list_images` says which names are understood. If there is no test folder, test images
    are split off the training images, stratified. Any format that Pillow reads works, also in deeper folders.
    Images are decoded once: later runs read the array from `cache` if the files are the same. Files that are
    left out, images that lost something and images that occur twice are counted in the remarks.

    Args:
        root: folder of the images.
        image_size: height and width in pixels to resize each image to (bilinear, antialiased, without keeping
            the aspect ratio), or None if all have the same size.
        channels: 3 for colour, 1 for grey.
        test_size: test images if there is no test folder: a fraction in (0, 1) or a number.
        test_seed: of that split only.
        cache: folder of the decoded arrays.
        layout: `classes` takes each folder directly in `root` for a class, whatever its name.
        background: colour behind transparent pixels, as a name or `#rrggbb`.
        max_megapixels: largest image to read, in millions of pixels.

    Raises:
        UserError: there are no images, a class is empty, train and test have other classes, folders cannot be
            understood, or images cannot be read or have another size than the first.
    """
    base, store = Path(root).expanduser(), Path(cache).expanduser()
    how = _decoding(image_size, channels, background, max_megapixels)
    if not root.strip() or not base.is_dir():
        raise UserError(f"data.root={root} is not a folder; point data.root or TEMPO_DATA to your images")
    listing = list_images(base, store, layout)
    pixels = load_images(base, listing.files, how, store)
    labels = np.array(listing.labels, dtype=np.int64)
    test = _test_indices(listing, labels, test_size, test_seed)
    duplicates = find_duplicates(pixels.images, labels, _is_train(listing, test))
    reading = {
        "layout": listing.layout,
        "left_out": dict(listing.left_out),
        **asdict(pixels.losses),
        "in_two_splits": duplicates.shared,
    }
    whole = ImageData(
        torch.from_numpy(pixels.images),
        torch.from_numpy(labels),
        listing.classes,
        shown(base.resolve().name),
        remarks=tuple(map(printable, _remarks(listing, pixels.losses, duplicates, how, test_size))),
        reading=reading,
    )
    return _parts(whole, listing, test)


def _decoding(
    image_size: int | None, channels: int, background: str, max_megapixels: int | float
) -> Decoding:
    if image_size is not None and image_size < 1:
        raise UserError(
            f"data.image_size={image_size} is not a size in pixels; set for example data.image_size=32"
        )
    if not max_megapixels > 0:
        raise UserError(f"data.max_megapixels={max_megapixels} must be above 0; set data.max_megapixels=89")
    try:
        red, green, blue = ImageColor.getrgb(background)[:3]
    except ValueError:
        raise UserError(
            f"data.background={background} is not a colour; set data.background=white, or '\"#808080\"'"
        ) from None
    return Decoding(channels, image_size, (red, green, blue), int(min(max_megapixels * _MEGA, 2**62)))


def _test_indices(
    listing: Listing, labels: np.ndarray, test_size: int | float, test_seed: int
) -> np.ndarray | None:
    """Return the training images to test on, or None if there is a test folder."""
    if "test" in listing.sizes:
        return None
    total = listing.sizes["train"]
    count = round(test_size * total) if isinstance(test_size, float) else test_size
    if not 0 < count < total:
        raise UserError(
            f"data.test_size={test_size} of {total} images leaves nothing to test or to train on; "
            "set for example data.test_size=0.2"
        )
    return stratified(labels[:total], count, test_seed)


def _is_train(listing: Listing, test: np.ndarray | None) -> np.ndarray:
    is_train = np.arange(len(listing.files)) < listing.sizes["train"]
    if test is not None:
        is_train[test] = False
    return is_train


def _parts(whole: ImageData, listing: Listing, test: np.ndarray | None) -> tuple[ImageData, ...]:
    """Return training, test and validation images; they share the memory of `whole`."""
    found: dict[str, ImageData] = {}
    start = 0
    for split, size in listing.sizes.items():
        found[split] = whole.between(start, start + size)
        start += size
    if test is not None:
        rest = np.setdiff1d(np.arange(listing.sizes["train"]), test, assume_unique=True)
        found["train"], found["test"] = found["train"].parted(rest, test)
    return tuple(found[split] for split in ("train", "test", "val") if split in found)


def _remarks(
    listing: Listing, losses: Losses, duplicates: Duplicates, how: Decoding, test_size: int | float
) -> Iterator[str]:
    """Yield one line for each thing that the user should know about the images."""
    if listing.layout:
        yield listing.layout
    if "val" in listing.sizes and "test" not in listing.sizes:
        yield f"there is no test folder: data.test_size={test_size} of the training images are for the test"
    if listing.left_out:
        parts = [f"{count} {reason}" for reason, count in listing.left_out.most_common()]
        yield f"files left out: {sum(listing.left_out.values())} ({', '.join(parts)})"
    yield from _losses(losses, how)
    if duplicates.first_shared is not None:
        pair = _pair(listing, duplicates.first_shared)
        yield (
            f"images both in the training set and in another one: {duplicates.shared} ({pair}), so results "
            "are too good"
        )
    if duplicates.first_of_two_classes is not None:
        pair = _pair(listing, duplicates.first_of_two_classes)
        yield f"images in two classes: {duplicates.of_two_classes} ({pair})"
    if duplicates.within_training:
        yield f"training images that repeat another one: {duplicates.within_training}"


def _pair(listing: Listing, indices: tuple[int, int]) -> str:
    return " = ".join(shown(listing.files[index].name) for index in indices)


def _losses(losses: Losses, how: Decoding) -> Iterator[str]:
    first: dict[str, Any] = losses.first
    if losses.transparent:
        colour = "#{:02x}{:02x}{:02x}".format(*how.background)
        yield f"transparent images: {losses.transparent}, laid on data.background ({colour})"
    if losses.values is not None:
        low, high = losses.values
        yield f"images with more than 8 bits: {losses.deep}, whose values {low:g} .. {high:g} became 0 .. 255"
    if losses.lost_low_bits:
        yield (
            f"colour images of 16 bits: {losses.lost_low_bits}, of which the upper 8 are read "
            f"(first: {first['lost_low_bits']}); convert them to PNG to scale them by the values they use"
        )
    if losses.more_frames:
        yield (
            f"files with several frames or pages: {losses.more_frames}, of which the first is read "
            f"(first: {first['more_frames']})"
        )
    if losses.constant:
        yield f"images of one colour: {losses.constant} (first: {first['constant']})"
