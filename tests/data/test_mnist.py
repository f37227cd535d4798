"""MNIST in its official format, small, made here; and the real one where it is at hand."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import MNIST

from tempo.data.mnist import mnist
from tempo.errors import UserError
from tests.data.conftest import md5, tree

RNG = np.random.default_rng(0)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x0800 | array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def small(root: Path, mirror: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Four files in `root/MNIST/raw`, whose checksums torchvision now expects; the arrays in them."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    arrays, resources = {}, []
    for prefix, count in (("train", 30), ("t10k", 10)):
        arrays[f"{prefix}-images-idx3-ubyte"] = RNG.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{prefix}-labels-idx1-ubyte"] = RNG.integers(0, 10, count, dtype=np.uint8)
    for name, array in arrays.items():
        content = gzip.compress(idx(array))
        (raw / f"{name}.gz").write_bytes(content)
        resources.append((f"{name}.gz", md5(content)))
    monkeypatch.setattr(MNIST, "resources", resources)
    # The first mirror is dead.
    monkeypatch.setattr(MNIST, "mirrors", [mirror[1] + "dead/", mirror[1]])
    return arrays


@pytest.mark.parametrize("unpacked", [False, True])
def test_either_form_is_read_and_nothing_written(small: dict, root: Path, unpacked: bool) -> None:
    if unpacked:
        for name, array in small.items():
            (root / "MNIST" / "raw" / f"{name}.gz").unlink()
            (root / "MNIST" / "raw" / name).write_bytes(idx(array))
    before = tree(root)
    for part, prefix in zip(mnist(root=str(root), download=True), ("train", "t10k"), strict=True):
        assert (part.images[:, 0].numpy() == small[f"{prefix}-images-idx3-ubyte"]).all()
        assert (part.labels.numpy() == small[f"{prefix}-labels-idx1-ubyte"]).all()
    assert tree(root) == before


@pytest.mark.parametrize("unpacked", [False, True])
@pytest.mark.parametrize("part", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
@pytest.mark.parametrize(
    "damage", [lambda content: content[:-5], lambda _: b"", lambda content: b"x" + content[1:]]
)
def test_a_damaged_file_is_named(
    small: dict, root: Path, unpacked: bool, part: str, damage: Callable[[bytes], bytes]
) -> None:
    archive = root / "MNIST" / "raw" / f"{part}.gz"
    path = archive.with_suffix("") if unpacked else archive
    path.write_bytes(damage(idx(small[part]) if unpacked else archive.read_bytes()))
    if unpacked:
        archive.unlink()
    with pytest.raises(UserError, match=f"{path} is truncated or corrupt.*delete it") as error:
        mnist(root=str(root), download=True)
    assert "\n" not in str(error.value)


def test_labels_must_be_as_many_as_images(small: dict, root: Path) -> None:
    path = root / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    path.with_suffix(".gz").unlink()
    path.write_bytes(idx(small[path.name][:-1]))
    with pytest.raises(UserError, match=f"{path} is truncated or corrupt.*29 labels"):
        mnist(root=str(root), download=False)


def test_a_missing_file_is_downloaded(small: dict, root: Path, mirror: tuple[Path, str]) -> None:
    whole = mnist(root=str(root), download=False)[0].sha256()
    lost = root / "MNIST" / "raw" / "train-labels-idx1-ubyte.gz"
    lost.rename(mirror[0] / lost.name)
    assert mnist(root=str(root), download=True)[0].sha256() == whole
    assert lost.read_bytes() == (mirror[0] / lost.name).read_bytes()


def test_real_files(real_data: Path) -> None:
    train, test = mnist(root=str(real_data), download=False)
    assert (len(train), len(test), train.shape) == (60_000, 10_000, (1, 28, 28))
    # Published counts of the digits.
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert torch.bincount(train.labels).tolist() == counts
    assert torch.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
