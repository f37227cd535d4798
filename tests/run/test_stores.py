"""data.store: images in memory, in a mapped file, or decoded by workers give the same run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tempo.data.mapped_images import MappedImages
from tempo.errors import UserError
from tests.conftest import Train

RNG = np.random.default_rng(7)
ROOT_KEYS = ("data=folder", "data.total_batch_size=16", "data.val_size=0.1", "data.augment.flip=true")
JOB = (*ROOT_KEYS, "model=mlp", "trainer=cpu", "trainer.threads=1", "trainer.epochs=2", "data.test_size=0.2")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three classes of 40 images of 8x8."""
    for label, name in enumerate(("bird", "cat", "dog")):
        for number in range(40):
            path = tmp_path / "pets" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = RNG.integers(0, 128, (8, 8, 3), dtype=np.uint8)
            pixels[..., label] += 60
            Image.fromarray(pixels).save(path)
    return tmp_path / "pets"


def test_the_stores_and_workers_give_the_same_bits(train: Train, root: Path) -> None:
    job = (*JOB, f"data.root={root}", f"data.cache={root.parent / 'cache'}")
    memory = train(*job, folder="memory", small=()).record
    stores = {
        "disk": ("data.store=disk",),
        "disk again": ("data.store=disk",),
        "files": ("data.store=files",),
        "workers": ("data.store=files", "data.num_workers=2"),
    }
    for name, changes in stores.items():
        found = train(*job, *changes, folder=name, small=()).record
        assert found.weights_sha256 == memory.weights_sha256, name
        assert found.metrics == memory.metrics, name
        for fact in ("train", "val", "test", "mean", "std", "class_counts", "class_names", "name", "shape"):
            assert found.data[fact] == memory.data[fact], (name, fact)
        if name.startswith("disk"):
            assert found.data["sha256"] == memory.data["sha256"]
            assert found.data["reading"] == memory.data["reading"]


def test_splits_of_a_mapped_file_are_views(root: Path) -> None:
    from tempo.data.folder import folder

    settings = {"image_size": None, "channels": 3, "test_size": 0.2, "test_seed": 0}
    cache = str(root.parent / "cache")
    in_memory = folder(root=str(root), cache=cache, **settings)
    mapped = folder(root=str(root), cache=cache, store="disk", **settings)
    for one, two in zip(in_memory, mapped, strict=True):
        assert isinstance(two.images, MappedImages)
        assert isinstance(two.images.array, np.memmap)
        assert (one.images[:] == two.images[:]).all()
        assert one.sha256() == two.sha256()
    assert mapped[0].images.array.base is mapped[0].take([3, 1]).images.array.base
    assert (mapped[0].take([3, 1]).images[:] == in_memory[0].images[[3, 1]]).all()


def test_a_changed_mapped_file_is_decoded_again(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    from tempo.data.folder import folder

    settings = {"image_size": None, "channels": 3, "test_size": 0.2, "test_seed": 0, "store": "disk"}
    cache = root.parent / "cache"
    before = folder(root=str(root), cache=str(cache), **settings)[0].sha256()
    (array,) = cache.glob("*.npy")
    content = bytearray(array.read_bytes())
    content[-1] ^= 1
    array.write_bytes(content)
    assert folder(root=str(root), cache=str(cache), **settings)[0].sha256() == before
    assert "damaged" in caplog.text


@pytest.mark.parametrize(
    ("store", "limit", "line"),
    [
        ("memory", "free_memory", "need 3e-05 GB of memory, and 1e-06 GB are free; set data.store=disk"),
        ("disk", "disk_usage", "and 1e-06 GB are free; set data.cache=<folder>, data.store=files"),
    ],
)
def test_need_and_free_space_are_compared_before_decoding(
    root: Path, store: str, limit: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from tempo.data import free_space
    from tempo.data.folder import folder

    if limit == "free_memory":
        monkeypatch.setattr(free_space, "free_memory", lambda: 1000)
    else:
        monkeypatch.setattr(free_space.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    settings = {"image_size": None, "channels": 3, "test_size": 0.2, "test_seed": 0, "store": store}
    with pytest.raises(UserError) as refused:
        folder(root=str(root), cache=str(root.parent / "cache"), **settings)
    assert "120 images of 3x8x8 need" in str(refused.value)
    assert line in str(refused.value)
    assert list((root.parent / "cache").glob(".*")) == []


def test_files_of_mixed_sizes_and_torn_files_are_one_line(train: Train, root: Path) -> None:
    Image.fromarray(RNG.integers(0, 256, (9, 12, 3), dtype=np.uint8)).save(root / "cat" / "0.png")
    job = (*JOB, f"data.root={root}", f"data.cache={root.parent / 'cache'}", "data.store=files")
    with pytest.raises(UserError) as refused:
        train(*job, small=())
    assert "a batch has images of 8x8 and 9x12 pixels; set data.image_size=<pixels>" in str(refused.value)
    assert train(*job, "data.image_size=8", folder="resized", small=()).record.status == "completed"
    (root / "cat" / "0.png").write_bytes(b"\x89PNG torn")
    with pytest.raises(UserError, match=r"item \d+ of the .* cannot be read: .*cat/0.png") as refused:
        train(*job, "data.image_size=8", folder="torn", small=())
    assert "\n" not in str(refused.value)
