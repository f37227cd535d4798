"""The handwritten digits bundled with scikit-learn: a data set without a download."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from tempo.data.images import ImageData
from tempo.errors import UserError

_TEST_EVERY = 5


def digits() -> tuple[ImageData, ImageData]:
    """Return 1,438 training and 359 test images: grey 8x8 digits of 10 classes (Alpaydin & Kaynak, UCI 1998).

    There is no official test set: here it is every fifth image in the file's order (index mod 5 = 4).
    The file's values 0 .. 16 are scaled to 0 .. 255.

    Raises:
        UserError: scikit-learn is not installed.
    """
    pixels, targets = _read()
    images = torch.from_numpy(
        ((pixels.astype(np.uint16) * 255 + 8) // 16).astype(np.uint8).reshape(-1, 1, 8, 8)
    )
    labels = torch.from_numpy(targets.astype(np.int64))
    note = "scikit-learn's handwritten digits, embedded; the papers' own data is data=cifar10"
    whole = ImageData(images, labels, tuple(str(digit) for digit in range(10)), "digits", note)
    test = np.arange(len(whole)) % _TEST_EVERY == _TEST_EVERY - 1
    return whole.take(np.flatnonzero(~test)), whole.take(np.flatnonzero(test))


def _read() -> tuple[np.ndarray, np.ndarray]:
    """Return pixels `[1797, 64]` in 0 .. 16 and labels `[1797]`."""
    spec = find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("data=digits needs scikit-learn, which is missing; run pip install scikit-learn")
    # scikit-learn's loader would import all of it and scipy: about 1 s, against 5 ms for the file.
    table = Path(spec.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    if table.is_file():
        with gzip.open(table, "rt") as lines:
            rows = np.loadtxt(lines, delimiter=",", dtype=np.uint8)
        return rows[:, :-1], rows[:, -1]
    from sklearn.datasets import load_digits  # the file has moved in this version

    found = load_digits()
    return found.data.astype(np.uint8), found.target
