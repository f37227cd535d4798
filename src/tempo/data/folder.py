"""The user's own image files, in folders named after their classes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tempo.data.folder_listing import Layout, list_images
from tempo.data.image_cache import Store
from tempo.data.image_files import ImageFiles
from tempo.data.images import ImageData
from tempo.data.listed_images import decoding_of, read_listed
from tempo.errors import UserError


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
    store: Store = "memory",
) -> tuple[ImageData, ...] | dict[str, ImageFiles]:
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
        store: where pixels are during a run: `memory`; `disk`, the mapped array of the cache; or `files`,
            which decodes each file when its image is used. The first two give the same bits.

    Raises:
        UserError: there are no images, a class is empty, train and test have other classes, folders cannot be
            understood, or images cannot be read or have another size than the first.
    """
    base, store_folder = Path(root).expanduser(), Path(cache).expanduser()
    how = decoding_of(image_size, channels, background, max_megapixels)
    if not root.strip() or not base.is_dir():
        raise UserError(f"data.root={root} is not a folder; point data.root or TEMPO_DATA to your images")
    listing = list_images(base, store_folder, layout)
    return read_listed(
        base, listing, how, cache=store_folder, store=store, test_size=test_size, test_seed=test_seed
    )
