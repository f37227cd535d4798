"""Images, caches and archives of a stranger: no code of theirs runs, and the memory stays free."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10

from tempo.data import cifar
from tempo.data.folder import folder as image_folder
from tempo.errors import UserError
from tests.bad_input.conftest import Trap
from tests.data.conftest import md5


def png(width: int, height: int) -> bytes:
    """An image that says it is so large, in a hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def images(root: Path) -> dict[str, Any]:
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(root / name / f"{number}.png")
    settings = {"channels": 3, "test_size": 2, "test_seed": 0, "cache": str(root.parent / "cache")}
    return {"root": str(root), "image_size": None, **settings}


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (12_000, 12_000), (2_000_000_000, 1)])
def test_an_image_that_would_fill_the_memory(width: int, height: int, tmp_path: Path) -> None:
    given = images(tmp_path / "images")
    (tmp_path / "images" / "a" / "bomb.png").write_bytes(png(width, height))
    with pytest.raises(UserError, match=r"bomb\.png cannot be read as an image"):
        image_folder(**given)


def test_what_is_no_file_is_passed_over(tmp_path: Path) -> None:
    """Pipes and devices would be read for ever."""
    given = images(tmp_path / "images")
    os.mkfifo(tmp_path / "images" / "a" / "pipe.png")
    (tmp_path / "images" / "a" / "zero.png").symlink_to("/dev/zero")
    train, test = image_folder(**given)
    assert len(train) + len(test) == 8


def test_a_cache_that_is_a_trap_is_decoded_again(canary: Path, tmp_path: Path) -> None:
    given = images(tmp_path / "images")
    expected, _ = image_folder(**given)
    (cached,) = (tmp_path / "cache").glob("*.npy")
    np.save(cached, np.array([Trap(canary)], dtype=object), allow_pickle=True)
    again, _ = image_folder(**given)
    assert torch.equal(again.images, expected.images)
    assert not canary.exists()


def test_an_archive_leaves_its_folder_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even one with the right checksum: members are read in memory, and none is written anywhere."""
    root = tmp_path / "data"
    root.mkdir()
    packed = root / CIFAR10.filename
    with tarfile.open(packed, "w:gz") as archive:
        for name in ("../escaped", "/tmp/tempo_escaped", "cifar-10-batches-py/../../escaped", "batches.meta"):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"evil"))
        for kind, target in ((tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "../escaped")):
            member = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
            member.type, member.linkname = kind, target
            archive.addfile(member)
        member = tarfile.TarInfo("cifar-10-batches-py/test_batch")
        member.type, member.devmajor, member.devminor = tarfile.CHRTYPE, 1, 5
        archive.addfile(member)
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(packed.read_bytes()))
    with pytest.raises(UserError, match="is truncated or corrupt"):
        cifar.cifar10(root=str(root), download=False)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [CIFAR10.filename, "data"]
    assert not Path("/tmp/tempo_escaped").exists()


@pytest.mark.parametrize("what", ["huge", "a pipe"])
def test_an_archive_that_is_none(what: str, tmp_path: Path) -> None:
    """Two gigabytes of nothing cost no memory, a pipe is not waited for."""
    packed = tmp_path / CIFAR10.filename
    if what == "huge":
        packed.touch()
        os.truncate(packed, 2 << 30)
    else:
        os.mkfifo(packed)
    with pytest.raises(UserError, match="not a file of at most 1024 MiB"):
        cifar.cifar10(root=str(tmp_path), download=False)
