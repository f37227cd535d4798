"""SVHN: 32x32 colour photographs of house numbers (Netzer et al., NIPS workshop 2011)."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from scipy.io import loadmat  # type: ignore[import-untyped]
from torchvision.datasets import SVHN

from tempo.data.archive import corrupt, fetch, verified_bytes
from tempo.data.images import ImageData

_HEADER_BYTES = 128


def svhn(*, root: str, download: bool) -> tuple[ImageData, ImageData]:
    """Return SVHN's 73,257 training and 26,032 test images of cropped digits, 10 classes.

    Reads `root/train_32x32.mat` and `root/test_32x32.mat`, not the 531,131 simpler images of `extra`.

    Args:
        root: folder of the data sets.
        download: download missing files from torchvision's addresses and check them with its checksums.

    Raises:
        UserError: a file is missing and cannot be downloaded, is corrupt or of another data set.
    """
    base = Path(root).expanduser()
    return _part(base, "train", download), _part(base, "test", download)


def _part(base: Path, split: str, download: bool) -> ImageData:
    url, file, md5 = SVHN.split_list[split]
    path = base / file
    if not path.exists():
        fetch(path, md5, [url], download=download, name="SVHN", root=base)
    found = loadmat(io.BytesIO(verified_bytes(path, md5, "svhn", _is_whole)))
    if not {"X", "y"} <= found.keys():
        raise corrupt(path, "it has no tables X and y")
    images, labels = found["X"], found["y"].ravel()
    if images.shape[:3] != (32, 32, 3) or images.dtype != np.uint8 or len(labels) != images.shape[3]:
        raise corrupt(path, f"{len(labels)} labels for images {images.shape}")
    return ImageData(
        torch.from_numpy(np.ascontiguousarray(images.transpose(3, 2, 0, 1))),
        torch.from_numpy(labels.astype(np.int64) % 10),  # the digit 0 has label 10
        tuple(str(digit) for digit in range(10)),
        "svhn",
    )


def _is_whole(content: bytes) -> bool:
    """Whether content is a MATLAB file (version 5) whose elements end where the file ends."""
    if not content.startswith(b"MATLAB 5.0 MAT-file"):
        return False
    position = _HEADER_BYTES
    while position + 8 <= len(content):
        position += 8 + int.from_bytes(content[position + 4 : position + 8], "little")
    return position == len(content)
