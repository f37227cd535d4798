"""MNIST and data sets in its format: 28x28 grey images in IDX files."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torchvision.datasets import EMNIST, KMNIST, MNIST, FashionMNIST

from tempo.data.archive import check, corrupt, fetch, md5_of, md5_of_file, not_published, read_bytes
from tempo.data.idx_file import is_whole_gzipped_idx, is_whole_idx, parse_idx, unzipped
from tempo.data.images import ImageData

_UNPACKED_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
"""MD5 of MNIST's files without gzip, taken from the verified archives; none is known of its relatives."""
Reader = Callable[[str, int], tuple[Path, np.ndarray]]
"""Returns the path and the array of a file, by its name (`train-images-idx3-ubyte`) and dimensions."""


def mnist(*, root: str, download: bool) -> tuple[ImageData, ImageData]:
    """Return MNIST's 60,000 training and 10,000 test images, 10 digits (LeCun et al., Proc. IEEE 1998).

    Reads the four official files from `root/MNIST/raw`, compressed or unpacked, and verifies their checksums.
    Writes nothing but downloads: torchvision's class would unpack files, which a read-only folder refuses.

    Args:
        root: folder of the data sets.
        download: download missing files from torchvision's addresses and check them with its checksums.

    Raises:
        UserError: a file is missing and cannot be downloaded, is corrupt or of another data set.
    """
    return _load("mnist", MNIST, [str(digit) for digit in range(10)], root, download)


def fashion_mnist(*, root: str, download: bool) -> tuple[ImageData, ImageData]:
    """Return Fashion-MNIST's 60,000 + 10,000 articles of 10 kinds (Xiao et al., arXiv:1708.07747).

    Reads the compressed files in `root/FashionMNIST/raw`; otherwise like `mnist`.
    """
    return _load("fashion_mnist", FashionMNIST, FashionMNIST.classes, root, download)


def kmnist(*, root: str, download: bool) -> tuple[ImageData, ImageData]:
    """Return Kuzushiji-MNIST's 60,000 + 10,000 cursive characters of 10 kinds (arXiv:1812.01718).

    Reads the compressed files in `root/KMNIST/raw`; otherwise like `mnist`.
    """
    return _load("kmnist", KMNIST, KMNIST.classes, root, download)


def emnist(
    *,
    root: str,
    download: bool,
    split: Literal["byclass", "bymerge", "balanced", "letters", "digits", "mnist"],
) -> tuple[ImageData, ImageData]:
    """Return EMNIST, handwritten characters in the format of MNIST (Cohen et al., arXiv:1702.05373).

    Reads the official archive `root/EMNIST/raw/gzip.zip` (560 MB) without unpacking it. The files have rows
    and columns exchanged; here the characters are upright.

    Args:
        root: folder of the data sets.
        download: download a missing archive from NIST and check it with torchvision's checksum.
        split: which classes: of `balanced` there are 47 with 112,800 + 18,800 images.

    Raises:
        UserError: the archive is missing and cannot be downloaded, is corrupt or another one.
    """
    base = Path(root).expanduser()
    packed = base / "EMNIST" / "raw" / "gzip.zip"
    if not packed.exists():
        fetch(packed, EMNIST.md5, [EMNIST.url], download=download, name="EMNIST", root=base)
    if (found := md5_of_file(packed)) != EMNIST.md5:
        raise not_published(packed, found, EMNIST.md5, "emnist", is_whole=_is_whole_zip(packed))
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]  # torchvision adds an empty first class
    classes = letters if split == "letters" else EMNIST.classes_split_dict[split]

    def read(name: str, dimensions: int) -> tuple[Path, np.ndarray]:
        part, _, rest = name.partition("-")
        member = f"gzip/emnist-{split}-{'train' if part == 'train' else 'test'}-{rest}.gz"
        try:
            with zipfile.ZipFile(packed) as archive:
                content = archive.read(member)
        except (zipfile.BadZipFile, KeyError, OSError, zlib.error) as error:
            raise corrupt(packed, str(error)) from error
        array = parse_idx(unzipped(content, packed), packed, dimensions)
        if dimensions == 1:
            return packed, array - (1 if split == "letters" else 0)
        return packed, np.ascontiguousarray(array.transpose(0, 2, 1))

    return _parts("emnist", classes, read)


def _is_whole_zip(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return bool(archive.namelist())  # read from the file's end
    except (zipfile.BadZipFile, OSError):
        return False


def _load(
    name: str, source: type[MNIST], classes: Sequence[str], root: str, download: bool
) -> tuple[ImageData, ImageData]:
    base = Path(root).expanduser()
    folder = base / source.__name__ / "raw"
    return _parts(name, classes, partial(_read, name, source, base, folder, download))


def _parts(name: str, classes: Sequence[str], read: Reader) -> tuple[ImageData, ImageData]:
    """Return both sets from their four files."""
    parts = []
    for prefix in ("train", "t10k"):
        _, images = read(f"{prefix}-images-idx3-ubyte", 3)
        path, labels = read(f"{prefix}-labels-idx1-ubyte", 1)
        largest = int(labels.max(initial=0))
        if len(labels) != len(images) or largest >= len(classes):
            raise corrupt(path, f"{len(labels)} labels up to {largest} for {len(images)} images")
        targets = torch.from_numpy(labels.astype(np.int64))
        parts.append(ImageData(torch.from_numpy(images[:, None]), targets, tuple(classes), name))
    return parts[0], parts[1]


def _read(
    name: str, source: type[MNIST], base: Path, folder: Path, download: bool, file: str, dimensions: int
) -> tuple[Path, np.ndarray]:
    """Return the path and the array of a file: the archive if there is one, or MNIST's unpacked file."""
    md5 = dict(source.resources)[f"{file}.gz"]
    packed, unpacked = folder / f"{file}.gz", folder / file
    if not packed.exists() and unpacked.exists() and source is MNIST:
        content = check(read_bytes(unpacked), _UNPACKED_MD5[file], unpacked, name, is_whole_idx)
        return unpacked, parse_idx(content, unpacked, dimensions)
    if not packed.exists():
        urls = [f"{mirror}{packed.name}" for mirror in source.mirrors]
        fetch(packed, md5, urls, download=download, name=source.__name__, root=base)
    content = read_bytes(packed)
    # The same content may have been compressed anew.
    if md5_of(content) != md5 and not (source is MNIST and _is_mnist(content, packed, file)):
        check(content, md5, packed, name, is_whole_gzipped_idx)
    return packed, parse_idx(unzipped(content, packed), packed, dimensions)


def _is_mnist(content: bytes, path: Path, file: str) -> bool:
    return is_whole_gzipped_idx(content) and md5_of(unzipped(content, path)) == _UNPACKED_MD5[file]
