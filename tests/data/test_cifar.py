"""CIFAR-10 and CIFAR-100 in their official format, small, made here."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.exceptions import VisibleDeprecationWarning
from torchvision.datasets import CIFAR10, CIFAR100

from tempo.data.cifar import cifar10, cifar100
from tempo.data.images import ImageData
from tempo.errors import UserError
from tests.data.conftest import Source, assert_ways_out, md5, tree

RNG = np.random.default_rng(0)
BOTH = [(CIFAR10, cifar10), (CIFAR100, cifar100)]


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined]
    """Writes strings as Python 2 did, which is how the published batches were made."""

    def save_string(self, value: str | bytes) -> None:
        content = value.encode() if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)

    dispatch = pickle._Pickler.dispatch | {str: save_string, bytes: save_string}  # type: ignore[attr-defined]


def python2(value: object) -> bytes:
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=2).dump(value)
    content = stream.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    # Old numpy wrote dtype's flags as 0 and 1.
    return content.replace(b"\x89\x88\x87", b"K\x00K\x01\x87")


@pytest.fixture
def cifar(
    mirror: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> dict[str, tuple[bytes, dict[str, bytes], dict]]:
    """Archive, members and truth of a small CIFAR-10 and CIFAR-100; torchvision expects their checksums."""
    found = {}
    for cls, label_key, classes in ((CIFAR10, "labels", 10), (CIFAR100, "fine_labels", 100)):
        members: dict[str, bytes] = {}
        truth: dict[str, list] = {}
        for list_name in ("train_list", "test_list"):
            entries = []
            for file, _ in getattr(cls, list_name):
                pixels = RNG.integers(0, 256, (8, 3072), dtype=np.uint8)
                labels = RNG.integers(0, classes, 8).tolist()
                members[file] = python2({"data": pixels, label_key: labels, "filenames": ["a.png"] * 8})
                entries.append([file, md5(members[file])])
                truth.setdefault(list_name, []).append((pixels, labels))
            monkeypatch.setattr(cls, list_name, entries)
        names = [f"class {index}" for index in range(classes)]
        members[cls.meta["filename"]] = python2({cls.meta["key"]: names})
        monkeypatch.setattr(cls, "meta", cls.meta | {"md5": md5(members[cls.meta["filename"]])})
        content = packed(cls, members)
        monkeypatch.setattr(cls, "tgz_md5", md5(content))
        monkeypatch.setattr(cls, "url", mirror[1] + cls.filename)
        found[cls.filename] = (content, members, truth)
    return found


def packed(cls: type[CIFAR10], members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for file, content in members.items():
            info = tarfile.TarInfo(f"{cls.base_folder}/{file}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def unpack(root: Path, cls: type[CIFAR10], members: dict[str, bytes]) -> None:
    (root / cls.base_folder).mkdir()
    for file, content in members.items():
        (root / cls.base_folder / file).write_bytes(content)


def assert_true(parts: tuple[ImageData, ImageData], truth: dict) -> None:
    for part, key in zip(parts, ("train_list", "test_list"), strict=True):
        pixels = np.concatenate([batch for batch, _ in truth[key]]).reshape(-1, 3, 32, 32)
        assert (part.images.numpy() == pixels).all()
        assert part.labels.tolist() == [label for _, labels in truth[key] for label in labels]
        assert part.classes[3] == "class 3"


def test_the_files_made_here_are_those_of_python_2(cifar: dict) -> None:
    batch = cifar[CIFAR10.filename][1]["data_batch_1"]
    assert b"cnumpy.core.multiarray\n_reconstruct" in batch
    assert b"K\x00K\x01\x87" in batch
    assert b"_codecs" not in batch


@pytest.mark.parametrize(("cls", "source"), BOTH)
@pytest.mark.parametrize("unpacked", [False, True])
def test_archive_or_folder_is_read_and_nothing_written(
    cls: type[CIFAR10], source: Source, unpacked: bool, cifar: dict, root: Path
) -> None:
    content, members, truth = cifar[cls.filename]
    if unpacked:
        unpack(root, cls, members)
    (root / cls.filename).write_bytes(b"not looked at" if unpacked else content)
    before = tree(root)
    assert_true(source(root=str(root), download=True), truth)
    assert tree(root) == before


@pytest.mark.parametrize(("cls", "source"), BOTH)
def test_torchvisions_own_class_reads_the_same(
    cls: type[CIFAR10], source: Source, cifar: dict, root: Path
) -> None:
    unpack(root, cls, cifar[cls.filename][1])
    for part, train in zip(source(root=str(root), download=False), (True, False), strict=True):
        with warnings.catch_warnings():
            # torchvision's plain unpickling trips over a deprecation of numpy 2.4.
            warnings.filterwarnings("ignore", message="dtype.*align", category=VisibleDeprecationWarning)
            theirs = cls(root, train=train)
        assert (part.images.permute(0, 2, 3, 1).numpy() == theirs.data).all()
        assert part.labels.tolist() == theirs.targets
        assert list(part.classes) == theirs.classes


def test_a_missing_archive_is_downloaded_and_left_whole(
    cifar: dict, root: Path, mirror: tuple[Path, str]
) -> None:
    content, _, truth = cifar[CIFAR10.filename]
    (mirror[0] / CIFAR10.filename).write_bytes(content)
    assert_true(cifar10(root=str(root / "new"), download=True), truth)
    assert list(tree(root / "new")) == [CIFAR10.filename]
    assert (root / "new" / CIFAR10.filename).read_bytes() == content


@pytest.mark.parametrize("served", [None, b"something else"])
def test_a_failed_download_leaves_nothing_and_names_the_ways_out(
    served: bytes | None, cifar: dict, root: Path, mirror: tuple[Path, str]
) -> None:
    if served is not None:
        (mirror[0] / CIFAR10.filename).write_bytes(served)
    with pytest.raises(UserError) as error:
        cifar10(root=str(root / "a" / "b"), download=True)
    assert_ways_out(str(error.value), root / "a" / "b", CIFAR10.filename)
    assert not list(root.iterdir())


@pytest.mark.parametrize(("cls", "source"), BOTH)
def test_missing_data_names_the_ways_out(cls: type[CIFAR10], source: Source, root: Path) -> None:
    with pytest.raises(UserError) as error:
        source(root=str(root), download=False)
    assert_ways_out(str(error.value), root, cls.filename)
    assert not list(root.iterdir())


@pytest.mark.parametrize(("cls", "source"), BOTH)
def test_a_truncated_archive_is_named(cls: type[CIFAR10], source: Source, cifar: dict, root: Path) -> None:
    (root / cls.filename).write_bytes(cifar[cls.filename][0][:-100])
    with pytest.raises(UserError, match=f"{root / cls.filename} is truncated or corrupt.*delete it"):
        source(root=str(root), download=True)


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.mkdir, (self.path,)


@pytest.mark.parametrize("in_archive", [False, True])
@pytest.mark.parametrize("checksum_right", [False, True])
def test_no_strangers_pickle_is_run(
    in_archive: bool, checksum_right: bool, cifar: dict, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sprung = root / "sprung"
    trap = pickle.dumps(Trap(sprung), protocol=2)
    pickle.loads(trap)
    sprung.rmdir()  # the trap works; what follows must not spring it
    members = cifar[CIFAR10.filename][1] | {"data_batch_1": trap}
    if checksum_right:  # not even then: only arrays and plain values are rebuilt
        monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", md5(trap)], *CIFAR10.train_list[1:]])
    if in_archive:
        content = packed(CIFAR10, members)
        monkeypatch.setattr(CIFAR10, "tgz_md5", md5(content))
        (root / CIFAR10.filename).write_bytes(content)
    else:
        unpack(root, CIFAR10, members)
    named = CIFAR10.filename if in_archive else f"{CIFAR10.base_folder}/data_batch_1"
    with pytest.raises(UserError, match=f"{root / named} is (truncated or corrupt|a whole file, but not)"):
        cifar10(root=str(root), download=True)
    assert not sprung.exists()
