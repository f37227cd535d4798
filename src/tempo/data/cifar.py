"""CIFAR-10 and CIFAR-100: 32x32 colour photographs (Krizhevsky, technical report, 2009)."""

from __future__ import annotations

import gzip
import io
import pickle
import pickletools
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.datasets import CIFAR10, CIFAR100

from tempo.data.archive import MOST_BYTES, check, corrupt, fetch, verified_bytes
from tempo.data.images import ImageData
from tempo.errors import UserError

_PIXELS = 3 * 32 * 32


def cifar10(*, root: str, download: bool) -> tuple[ImageData, ImageData]:
    """Return CIFAR-10's 50,000 training and 10,000 test images, 10 classes.

    Reads `root/cifar-10-batches-py` or, without unpacking it, `root/cifar-10-python.tar.gz`.

    Args:
        root: folder of the data sets.
        download: download a missing archive from torchvision's address and check it with its checksum.

    Raises:
        UserError: the data is missing and cannot be downloaded, or is corrupt.
    """
    return _load(CIFAR10, "cifar10", "labels", Path(root).expanduser(), download)


def cifar100(*, root: str, download: bool) -> tuple[ImageData, ImageData]:
    """Return CIFAR-100 in the same way, from `root/cifar-100-python` or `root/cifar-100-python.tar.gz`."""
    return _load(CIFAR100, "cifar100", "fine_labels", Path(root).expanduser(), download)


def _load(
    source: type[CIFAR10], name: str, label_key: str, root: Path, download: bool
) -> tuple[ImageData, ImageData]:
    """Return both sets; torchvision's class `source` has the names, checksums and address of the files."""
    members = _members(source, name, root, download)
    meta_path, meta = members(source.meta["filename"], source.meta["md5"])
    classes = meta.get(source.meta["key"])
    if not classes:
        raise corrupt(meta_path, f"no {source.meta['key']}")
    parts = []
    for files in (source.train_list, source.test_list):
        images, labels = [], []
        for file, md5 in files:
            path, batch = members(file, md5)
            pixels, targets = batch.get("data"), batch.get(label_key)
            if pixels is None or targets is None or pixels.shape != (len(targets), _PIXELS):
                raise corrupt(path, "not the images and labels that were expected")
            images.append(pixels)
            labels.extend(targets)
        whole = torch.from_numpy(np.concatenate(images).reshape(-1, 3, 32, 32))
        parts.append(ImageData(whole, torch.tensor(labels, dtype=torch.int64), tuple(classes), name))
    return parts[0], parts[1]


def _members(
    source: type[CIFAR10], name: str, root: Path, download: bool
) -> Callable[[str, str], tuple[Path, dict[str, Any]]]:
    """Return a function that reads a file, by name and MD5, from the unpacked folder or else the archive."""
    folder, packed = root / source.base_folder, root / source.filename
    expected = [file for file, _ in (*source.train_list, *source.test_list)] + [source.meta["filename"]]
    if all((folder / file).is_file() for file in expected):

        def unpacked(file: str, md5: str) -> tuple[Path, dict[str, Any]]:
            path = folder / file
            return path, _unpickle(verified_bytes(path, md5, name, _is_whole_pickle), path)

        return unpacked
    if not packed.exists():
        fetch(packed, source.tgz_md5, [source.url], download=download, name=name, root=root)
    content = verified_bytes(packed, source.tgz_md5, name, _is_whole_archive)
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            found = {
                Path(member.name).name: archive.extractfile(member).read()  # type: ignore[union-attr]
                for member in archive
                if member.isfile() and Path(member.name).name in expected
            }
    except (tarfile.TarError, OSError, EOFError) as error:
        raise corrupt(packed, str(error)) from error

    def member(file: str, md5: str) -> tuple[Path, dict[str, Any]]:
        if file not in found:
            raise corrupt(packed, f"{file} is not in it")
        return packed, _unpickle(check(found.pop(file), md5, packed, name, _is_whole_pickle), packed)

    return member


def _is_whole_archive(content: bytes) -> bool:
    length = 0
    try:
        with gzip.open(io.BytesIO(content)) as unpacked:
            while length <= MOST_BYTES and (block := unpacked.read(1 << 20)):
                length += len(block)
    except (OSError, EOFError, zlib.error):
        return False
    return True


def _is_whole_pickle(content: bytes) -> bool:
    try:
        return sum(1 for _ in pickletools.genops(content)) > 0  # which reads it and runs nothing
    except (ValueError, IndexError, OverflowError):
        return False


def _dtype(code: str, align: object = False, copy: object = False) -> np.dtype:
    """Return numpy.dtype for old pickles, whose 0 and 1 numpy 2.4 takes for booleans only with a warning."""
    return np.dtype(code, align=bool(align), copy=bool(copy))


class _ArraysOnly(pickle.Unpickler):
    """Rebuilds dicts, lists, strings and numpy arrays, and refuses everything else.

    A second safeguard: the checksum was verified before.
    """

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return super().find_class("numpy._core.multiarray", name)
        if module == "numpy" and name in ("ndarray", "dtype"):
            return np.ndarray if name == "ndarray" else _dtype
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _unpickle(content: bytes, path: Path) -> dict[str, Any]:
    try:
        found = _ArraysOnly(io.BytesIO(content), encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError) as error:
        raise corrupt(path, str(error)) from error
    if not isinstance(found, dict):
        raise UserError(
            f"{path} contains a {type(found).__name__}, not a table; delete it and download it again"
        )
    return found
