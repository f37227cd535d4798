"""MNIST: handwritten digits, 28x28 grey (LeCun, Bottou, Bengio & Haffner, Proc. IEEE 1998)."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torchvision.datasets import MNIST

from tempo.data.archive import corrupt, fetch, read_bytes, verified_bytes
from tempo.data.images import ImageData

_IDX_UINT8 = 0x08


def mnist(*, root: str, download: bool) -> tuple[ImageData, ImageData]:
    """Return MNIST's 60,000 training and 10,000 test images, 10 classes.

    Reads the four official files from `root/MNIST/raw`, compressed (checksums verified) or unpacked. Writes
    nothing but downloads: torchvision's class would unpack the files, which a read-only folder refuses.

    Args:
        root: folder of the data sets.
        download: download missing files from torchvision's addresses and check them with its checksums.

    Raises:
        UserError: a file is missing and cannot be downloaded, or is corrupt.
    """
    base = Path(root).expanduser()
    parts = []
    for prefix in ("train", "t10k"):
        images = _read(base, f"{prefix}-images-idx3-ubyte", 3, download)
        path, labels = _read(base, f"{prefix}-labels-idx1-ubyte", 1, download)
        if len(labels) != len(images[1]) or labels.max(initial=0) > 9:
            raise corrupt(
                path, f"{len(labels)} labels up to {labels.max(initial=0)} for {len(images[1])} images"
            )
        parts.append(
            ImageData(
                torch.from_numpy(images[1][:, None]),
                torch.from_numpy(labels.astype(np.int64)),
                tuple(str(digit) for digit in range(10)),
                "mnist",
            )
        )
    return parts[0], parts[1]


def _read(root: Path, name: str, dimensions: int, download: bool) -> tuple[Path, np.ndarray]:
    """Return the path and the array of file `name`."""
    md5 = dict(MNIST.resources)[f"{name}.gz"]
    packed = root / "MNIST" / "raw" / f"{name}.gz"
    unpacked = packed.with_suffix("")
    if not packed.exists() and unpacked.exists():
        return unpacked, _parse(read_bytes(unpacked), unpacked, dimensions)
    if not packed.exists():
        fetch(
            packed,
            md5,
            [f"{mirror}{packed.name}" for mirror in MNIST.mirrors],
            download=download,
            name="MNIST",
            root=root,
        )
    try:
        content = gzip.decompress(verified_bytes(packed, md5))
    except (OSError, EOFError, zlib.error) as error:
        raise corrupt(packed, str(error)) from error
    return packed, _parse(content, packed, dimensions)


def _parse(content: bytes, path: Path, dimensions: int) -> np.ndarray:
    """Return the array of an IDX file: magic `00 00 type dimensions`, big-endian sizes, values."""
    header = 4 * (1 + dimensions)
    if len(content) < header:
        raise corrupt(path, f"{len(content)} bytes")
    magic, *sizes = struct.unpack(f">{1 + dimensions}I", content[:header])
    if magic != _IDX_UINT8 << 8 | dimensions:
        raise corrupt(path, f"its magic number is {magic:#x}")
    count = math.prod(sizes)
    if len(content) != header + count:
        raise corrupt(path, f"{len(content)} bytes instead of {header + count}")
    return np.frombuffer(bytearray(content), dtype=np.uint8, offset=header).reshape(sizes)
