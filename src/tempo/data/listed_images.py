"""Read the images of a listing into memory or a mapped file, or leave them to the workers of a loader."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ImageColor

from tempo.data.decode_files import Losses
from tempo.data.decode_image import Decoding
from tempo.data.duplicate_images import Duplicates, find_duplicates
from tempo.data.folder_listing import Listing
from tempo.data.folder_names import shown
from tempo.data.image_cache import Store, content_digest, load_images
from tempo.data.image_files import ImageFiles
from tempo.data.images import ImageData
from tempo.data.label_sets import multi_hot, strata
from tempo.data.mapped_images import MappedImages
from tempo.data.split import stratified
from tempo.errors import UserError, printable

_MEGA = 1_000_000


def read_listed(
    base: Path,
    listing: Listing,
    how: Decoding,
    *,
    cache: Path,
    store: Store,
    test_size: int | float,
    test_seed: int,
) -> tuple[ImageData, ...] | dict[str, ImageFiles]:
    """Return training and test images, and validation images if the listing has some; see `folder`."""
    labels = (
        multi_hot(listing.labels, len(listing.classes))
        if listing.has_label_sets
        else np.array(listing.labels, dtype=np.int64)
    )
    test = _test_indices(listing, labels, test_size, test_seed)
    if store == "files":
        return _left_to_workers(base, listing, how, labels, test, test_size)
    pixels = load_images(base, listing.files, how, cache, store)
    duplicates = find_duplicates(pixels.digests, strata(labels), _is_train(listing, test))
    reading = {
        "layout": listing.layout,
        "left_out": dict(listing.left_out),
        **asdict(pixels.losses),
        "in_two_splits": duplicates.shared,
    }
    remarks = [*_remarks_on_listing(listing, test_size), *_remarks(listing, pixels.losses, duplicates, how)]
    images = (
        torch.from_numpy(pixels.images) if pixels.path is None else MappedImages(pixels.images, pixels.path)
    )
    whole = ImageData(
        images,
        torch.from_numpy(labels),
        listing.classes,
        shown(base.resolve().name),
        remarks=tuple(map(printable, remarks)),
        reading=reading,
    )
    return _parts(whole, listing, test)


def _left_to_workers(
    base: Path,
    listing: Listing,
    how: Decoding,
    labels: np.ndarray,
    test: np.ndarray | None,
    test_size: int | float,
) -> dict[str, ImageFiles]:
    """Return data sets that decode each file when its image is used."""
    whole = ImageFiles(
        base,
        [file.name for file in listing.files],
        labels,
        listing.classes,
        how,
        sizes_and_content=(tuple(file.size for file in listing.files), content_digest(base, listing.files)),
        remarks=tuple(map(printable, _remarks_on_listing(listing, test_size))),
        reading={"layout": listing.layout, "left_out": dict(listing.left_out)},
    )
    found: dict[str, ImageFiles] = {}
    start = 0
    for split, size in listing.sizes.items():
        found[split] = whole.at(np.arange(start, start + size))
        start += size
    if test is not None:
        rest = np.setdiff1d(np.arange(listing.sizes["train"]), test, assume_unique=True)
        found["train"], found["test"] = found["train"].at(rest), found["train"].at(test)
    return found


def decoding_of(
    image_size: int | None, channels: int, background: str, max_megapixels: int | float
) -> Decoding:
    """Return the settings of decoding; UserError for a value that cannot be."""
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
    return stratified(strata(labels[:total]), count, test_seed)


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


def _remarks_on_listing(listing: Listing, test_size: int | float) -> Iterator[str]:
    """Yield one line for each thing that the user should know about the files."""
    if listing.layout:
        yield listing.layout
    if "val" in listing.sizes and "test" not in listing.sizes:
        yield f"there is no test folder: data.test_size={test_size} of the training images are for the test"
    if listing.left_out:
        parts = [f"{count} {reason}" for reason, count in listing.left_out.most_common()]
        yield f"files left out: {sum(listing.left_out.values())} ({', '.join(parts)})"


def _remarks(listing: Listing, losses: Losses, duplicates: Duplicates, how: Decoding) -> Iterator[str]:
    """Yield one line for each thing that the user should know about the images."""
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
