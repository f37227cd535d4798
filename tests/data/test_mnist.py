"""MNIST, its relatives and SVHN in their official formats, small, made here, and the real MNIST."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torchvision.datasets import EMNIST, KMNIST, MNIST, SVHN, FashionMNIST

from tempo.data import mnist as mnist_format
from tempo.data.mnist import emnist, fashion_mnist, kmnist, mnist
from tempo.data.svhn import svhn
from tempo.errors import UserError
from tests.data.conftest import Source, md5, tree

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
    monkeypatch.setattr(mnist_format, "_UNPACKED_MD5", {name: md5(idx(a)) for name, a in arrays.items()})
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


def test_labels_must_be_as_many_as_images(small: dict, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = root / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    path.with_suffix(".gz").unlink()
    path.write_bytes(idx(small[path.name][:-1]))
    monkeypatch.setitem(mnist_format._UNPACKED_MD5, path.name, md5(path.read_bytes()))
    with pytest.raises(UserError, match=f"{path} is truncated or corrupt.*29 labels"):
        mnist(root=str(root), download=False)


@pytest.mark.parametrize("unpacked", [False, True])
def test_a_whole_file_of_another_data_set_is_no_damage(small: dict, root: Path, unpacked: bool) -> None:
    path = root / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    other = idx(RNG.integers(0, 256, (30, 28, 28), dtype=np.uint8))
    if unpacked:
        path.unlink()
    (path.with_suffix("") if unpacked else path).write_bytes(other if unpacked else gzip.compress(other))
    with pytest.raises(UserError, match="is a whole file, but not the one published as mnist") as error:
        mnist(root=str(root), download=True)
    assert "delete" not in str(error.value)
    assert "data.root" in str(error.value)


def test_a_known_file_of_another_data_set_is_named(
    small: dict, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = root / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx(RNG.integers(0, 256, (30, 28, 28), dtype=np.uint8))))
    monkeypatch.setattr(FashionMNIST, "resources", [(path.name, md5(path.read_bytes()))])
    with pytest.raises(UserError, match="is a file of fashion_mnist, not of mnist; use data=fashion_mnist"):
        mnist(root=str(root), download=True)


def test_the_same_content_compressed_anew_is_the_same(small: dict, root: Path) -> None:
    before = mnist(root=str(root), download=False)[0].sha256()
    path = root / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=1))
    assert mnist(root=str(root), download=False)[0].sha256() == before


@pytest.mark.parametrize(
    ("source", "cls", "third"), [(fashion_mnist, FashionMNIST, "Pullover"), (kmnist, KMNIST, "su")]
)
def test_relatives_are_read_from_their_own_folder(
    source: Source, cls: type[MNIST], third: str, small: dict, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cls, "resources", MNIST.resources)
    with pytest.raises(UserError, match=f"{cls.__name__} is not in"):
        source(root=str(root), download=False)
    (root / "MNIST").rename(root / cls.__name__)
    train, test = source(root=str(root), download=False)
    assert (train.images[:, 0].numpy() == small["train-images-idx3-ubyte"]).all()
    assert (len(test), train.classes[2], train.name) == (10, third, source.__name__)
    for name, array in small.items():  # nothing is published about unpacked files
        (root / cls.__name__ / "raw" / f"{name}.gz").unlink()
        (root / cls.__name__ / "raw" / name).write_bytes(idx(array))
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte\.gz is missing"):
        source(root=str(root), download=False)


@pytest.fixture
def zipped(root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, dict[str, np.ndarray]]:
    """A small EMNIST of two splits, and its arrays; torchvision expects its checksum."""
    packed = root / "EMNIST" / "raw" / "gzip.zip"
    packed.parent.mkdir(parents=True)
    arrays = {}
    with zipfile.ZipFile(packed, "w") as archive:
        for split, first, classes in (("balanced", 0, 47), ("letters", 1, 26)):
            for part, count in (("train", 60), ("test", 10)):
                stem = f"emnist-{split}-{part}"
                arrays[f"{stem}-images-idx3-ubyte"] = RNG.integers(0, 256, (count, 28, 28), dtype=np.uint8)
                labels = RNG.integers(first, first + classes, count, dtype=np.uint8)
                arrays[f"{stem}-labels-idx1-ubyte"] = labels
        for name, array in arrays.items():
            archive.writestr(f"gzip/{name}.gz", gzip.compress(idx(array)))
    monkeypatch.setattr(EMNIST, "md5", md5(packed.read_bytes()))
    return packed, arrays


@pytest.mark.parametrize(("split", "first", "classes"), [("balanced", 0, 47), ("letters", 1, 26)])
def test_emnist_is_upright_and_its_letters_start_at_a(
    split: str, first: int, classes: int, zipped: tuple[Path, dict[str, np.ndarray]], root: Path
) -> None:
    arrays = zipped[1]
    for part, data in zip(
        ("train", "test"), emnist(root=str(root), download=False, split=split), strict=True
    ):
        images = arrays[f"emnist-{split}-{part}-images-idx3-ubyte"]
        assert (data.images[:, 0].numpy() == images.transpose(0, 2, 1)).all()
        assert (data.labels.numpy() == arrays[f"emnist-{split}-{part}-labels-idx1-ubyte"] - first).all()
        assert len(data.classes) == classes
        assert "N/A" not in data.classes


def test_another_or_a_cut_archive_of_emnist(zipped: tuple[Path, dict[str, np.ndarray]], root: Path) -> None:
    packed, whole = zipped[0], zipped[0].read_bytes()
    packed.write_bytes(whole[:-30])
    with pytest.raises(UserError, match="is truncated or corrupt"):
        emnist(root=str(root), download=False, split="balanced")
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("something", "else")
    with pytest.raises(UserError, match="is a whole file, but not the one published as emnist"):
        emnist(root=str(root), download=False, split="balanced")


def test_svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays, entries = {}, {}
    for split, count in (("train", 30), ("test", 10)):
        images = RNG.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        labels = RNG.integers(1, 11, (count, 1), dtype=np.uint8)
        path = root / f"{split}_32x32.mat"
        savemat(path, {"X": images, "y": labels}, do_compression=True)
        arrays[split] = images, labels
        entries[split] = ["", path.name, md5(path.read_bytes())]
    monkeypatch.setattr(SVHN, "split_list", entries)
    for split, data in zip(("train", "test"), svhn(root=str(root), download=False), strict=True):
        images, labels = arrays[split]
        assert (data.images.numpy() == images.transpose(3, 2, 0, 1)).all()
        assert (data.labels.numpy() == labels.ravel() % 10).all()
    path = root / "train_32x32.mat"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match="is truncated or corrupt"):
        svhn(root=str(root), download=False)
    savemat(path, {"other": np.ones(3)})
    with pytest.raises(UserError, match="is a whole file, but not the one published as svhn"):
        svhn(root=str(root), download=False)


def test_a_gzip_bomb_is_not_unpacked_into_memory(small: dict, root: Path) -> None:
    path = root / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(bytes(1 << 26)))
    tracemalloc.start()
    with pytest.raises(UserError, match="truncated or corrupt"):
        mnist(root=str(root), download=False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 24


def test_a_missing_file_is_downloaded(small: dict, root: Path, mirror: tuple[Path, str]) -> None:
    whole = mnist(root=str(root), download=False)[0].sha256()
    lost = root / "MNIST" / "raw" / "train-labels-idx1-ubyte.gz"
    lost.rename(mirror[0] / lost.name)
    assert mnist(root=str(root), download=True)[0].sha256() == whole
    assert lost.read_bytes() == (mirror[0] / lost.name).read_bytes()


def test_real_files_without_gzip(real_data: Path, root: Path) -> None:
    (root / "MNIST" / "raw").mkdir(parents=True)
    for path in (real_data / "MNIST" / "raw").glob("*.gz"):
        (root / "MNIST" / "raw" / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    assert len(mnist(root=str(root), download=False)[0]) == 60_000


def test_real_files(real_data: Path) -> None:
    train, test = mnist(root=str(real_data), download=False)
    assert (len(train), len(test), train.shape) == (60_000, 10_000, (1, 28, 28))
    # Published counts of the digits.
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert torch.bincount(train.labels).tolist() == counts
    assert torch.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
