"""The user's own images: what is read, what is cached, what is refused."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tempo.data import decode_files, image_cache
from tempo.data.decode_image import Decoding
from tempo.data.folder import folder
from tempo.data.folder_scan import File
from tempo.data.images import ImageData
from tempo.errors import UserError

RNG = np.random.default_rng(1)
CLASSES = ("bird", "cat", "dog")


def save(path: Path, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> np.ndarray:
    """Write a random image of `size` (height, width) and return its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, (*size, 3) if mode == "RGB" else size, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A train and a test tree of 4 and 2 images a class."""
    for part, count in (("train", 4), ("test", 2)):
        for name in CLASSES:
            for index in range(count):
                save(tmp_path / "pets" / part / name / f"{index}.png")
    return tmp_path / "pets"


@pytest.fixture
def single(tmp_path: Path) -> Path:
    """One tree of 10 images a class."""
    for name in CLASSES:
        for index in range(10):
            save(tmp_path / "one" / name / f"{index}.png")
    return tmp_path / "one"


def load(root: Path, **changes: object) -> tuple[ImageData, ImageData]:
    settings = {
        "image_size": None,
        "channels": 3,
        "test_size": 0.2,
        "test_seed": 0,
        "cache": root.parent / "cache",
    }
    settings |= changes
    settings["cache"] = str(settings["cache"])
    return folder(root=str(root), **settings)


def cached(root: Path) -> list[Path]:
    return sorted((root.parent / "cache").glob("*"))


def open_rgb(path: Path) -> torch.Tensor:
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def test_two_trees(root: Path) -> None:
    for part, name in zip(load(root), ("train", "test"), strict=True):
        files = sorted((root / name).rglob("*.png"))
        assert torch.equal(part.images, torch.stack([open_rgb(file) for file in files]))
        assert [part.classes[label] for label in part.labels] == [file.parent.name for file in files]
        assert (part.classes, part.name) == (CLASSES, "pets")


def test_one_tree_is_split_by_its_own_seed(single: Path) -> None:
    train, test = load(single)
    assert (len(train), len(test)) == (24, 6)
    assert torch.bincount(test.labels).tolist() == [2, 2, 2]
    everything = {open_rgb(file).numpy().tobytes() for file in single.rglob("*.png")}
    assert {image.numpy().tobytes() for part in (train, test) for image in part.images} == everything
    assert load(single)[1].sha256() == test.sha256() != load(single, test_seed=1)[1].sha256()
    assert len(load(single, test_size=7)[1]) == 7


def test_its_own_cache_and_hidden_folders_are_no_classes(single: Path) -> None:
    (single / ".git").mkdir()
    for _ in range(2):
        assert load(single, cache=single / "cache")[0].classes == CLASSES


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("bus", "train"):
        for index in range(5):
            save(tmp_path / "vehicles" / name / f"{index}.png")
    assert load(tmp_path / "vehicles")[0].classes == ("bus", "train")


def test_formats_depths_and_strangers(root: Path) -> None:
    pixels = {}
    for suffix in (".bmp", ".webp", ".gif", ".tiff", ".JPG", ".ppm", ""):
        path = root / "train" / "dog" / "deep" / "er" / f"x{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        image.save(path, format={"": "PNG", ".JPG": "JPEG"}.get(suffix), lossless=True)
        pixels[path] = open_rgb(path)
    (root / "train" / "dog" / "notes.txt").write_text("no image")
    (root / "train" / "dog" / ".DS_Store").write_text("no image")
    train, _ = load(root)
    assert len(train) == 12 + len(pixels)
    dogs = [image.numpy().tobytes() for image in train.images[train.labels == 2]]
    assert all(image.numpy().tobytes() in dogs for image in pixels.values())


def test_resizing_is_pillows_antialiased_bilinear(root: Path) -> None:
    save(root / "train" / "cat" / "9.png", (33, 17))
    train, _ = load(root, image_size=5)
    assert train.shape == (3, 5, 5)
    with Image.open(root / "train" / "cat" / "9.png") as image:
        expected = image.resize((5, 5), Image.Resampling.BILINEAR)
    found = train.images[train.labels == 1][-1].permute(1, 2, 0).numpy()
    assert (found == np.asarray(expected)).all()


def test_grey_and_turned_images(root: Path) -> None:
    path = root / "train" / "cat" / "9.png"
    grey = save(path, mode="L")
    assert (load(root)[0].images[8].numpy() == grey).all()
    train, _ = load(root, channels=1)
    assert train.shape == (1, 8, 8)
    assert (train.images[8, 0].numpy() == grey).all()
    upright, exif = save(path), Image.Exif()
    exif[0x0112] = 3  # the camera's note: turned by 180 degrees
    Image.fromarray(upright).save(path, exif=exif)
    assert (load(root)[0].images[8].permute(1, 2, 0).numpy() == upright[::-1, ::-1]).all()


def test_the_second_start_reads_the_cache_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(root)
    monkeypatch.setattr(image_cache, "decode_all", None)
    for before, after in zip(first, load(root), strict=True):
        assert torch.equal(before.images, after.images)
        assert (before.remarks, before.reading) == (after.remarks, after.reading)
    assert sorted(file.suffix for file in cached(root)) == [".json", ".npy"]


@pytest.mark.parametrize("limit", ["_WHOLE_FILES", "_WHOLE_BYTES", None])
def test_content_that_changes_under_the_same_name_size_and_time_is_seen(
    root: Path, limit: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if limit is not None:  # a large data set: a sample is read
        monkeypatch.setattr(image_cache, limit, 10)
        monkeypatch.setattr(image_cache, "_SAMPLED_BYTES", 60)
    path = root / "train" / "bird" / "0.bmp"
    save(path, (16, 16))
    settings = {"image_size": 8}
    before = load(root, **settings)[0].sha256()
    assert load(root, **settings)[0].sha256() == before
    status = path.stat()
    save(path, (16, 16))
    assert path.stat().st_size == status.st_size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert load(root, **settings)[0].sha256() != before


def test_a_sample_reads_evenly_spaced_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_cache, "_WHOLE_FILES", 3)
    monkeypatch.setattr(image_cache, "_SAMPLED_FILES", 4)
    files = []
    for index in range(10):
        (tmp_path / f"{index}").write_bytes(b"a" * 9)
        files.append(File(f"{index}", 9, 0))
    before = image_cache.content_digest(tmp_path, files)
    changed = []
    for index in range(10):
        (tmp_path / f"{index}").write_bytes(b"b" * 9)
        if image_cache.content_digest(tmp_path, files) != before:
            changed.append(index)
        (tmp_path / f"{index}").write_bytes(b"a" * 9)
    assert changed == [0, 2, 5, 7]


@pytest.mark.parametrize("change", ["pixels", "touch", "add", "remove", "rename"])
def test_any_change_of_the_files_is_seen_and_the_old_array_goes(root: Path, change: str) -> None:
    load(root)
    old = cached(root)
    path = root / "train" / "bird" / "0.png"
    if change == "pixels":
        save(path)
    elif change == "touch":
        os.utime(path, (time.time() + 5, time.time() + 5))
    elif change == "add":
        save(root / "train" / "bird" / "new.png")
    elif change == "remove":
        path.unlink()
    else:
        path.rename(path.with_name("zz.png"))
    train, _ = load(root)
    files = sorted((root / "train").rglob("*.png"))
    assert torch.equal(train.images, torch.stack([open_rgb(file) for file in files]))
    assert len(cached(root)) == 2
    assert not set(cached(root)) & set(old)


def test_each_option_has_an_array_of_its_own(root: Path) -> None:
    options = ({}, {"image_size": 4}, {"channels": 1})
    fingerprints = [load(root, **changes)[0].sha256() for changes in options]
    assert len(cached(root)) == 6
    assert fingerprints == [load(root, **changes)[0].sha256() for changes in options]


@pytest.mark.parametrize("damage", [lambda c: c[:-7], lambda c: b"", lambda c: c[:-1] + bytes([c[-1] ^ 1])])
def test_a_damaged_cache_is_rebuilt(
    root: Path, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    before = load(root)[0].sha256()
    path = next(path for path in cached(root) if path.suffix == ".npy")
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert load(root)[0].sha256() == before
    assert path.read_bytes() == whole
    assert "damaged" in caplog.text


def test_a_cache_that_cannot_be_written_is_done_without(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocked = root.parent / "a file"
    blocked.write_text("in the way")
    with caplog.at_level(logging.WARNING):
        train, test = load(root, cache=blocked / "cache")
    assert (len(train), len(test)) == (12, 6)
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 1
    assert "data.cache=" in warnings[0]
    assert "\n" not in warnings[0]


def test_many_files_keep_their_order(tmp_path: Path) -> None:
    expected = [
        save(tmp_path / f"{index:04d}.png", (3, 2)) for index in range(3 * decode_files._BLOCK_IMAGES + 1)
    ]
    names = sorted(path.name for path in tmp_path.iterdir())
    how = Decoding(3, None, (255, 255, 255), 10**6)
    found = decode_files.decode_all(tmp_path, names, how, decode_files.empty_array).images
    assert (found == np.stack(expected).transpose(0, 3, 1, 2)).all()


def empty_class(root: Path) -> None:
    (root / "test" / "emu").mkdir()


def unknown_format(root: Path) -> None:
    empty_class(root)
    (root / "test" / "emu" / "a.heic").write_bytes(b"?")


def cut_image(root: Path) -> None:
    path = root / "train" / "cat" / "2.png"
    path.write_bytes(path.read_bytes()[:-60])


def two_odd_sizes(root: Path) -> None:
    save(root / "train" / "cat" / "1.png", (9, 7))
    save(root / "train" / "dog" / "0.png", (5, 5))


def other_size_in_test(root: Path) -> None:
    for path in (root / "test").rglob("*.png"):
        save(path, (6, 6))


def nothing(root: Path) -> None:
    """The images as they are; the settings are wrong."""


REFUSED: list[tuple[Callable[[Path], object], dict[str, object], tuple[str, ...]]] = [
    (empty_class, {}, ("test/emu has no images",)),
    (unknown_format, {}, ("test/emu", "a.heic")),
    (lambda root: (root / "train/cat/2.png").write_bytes(b""), {}, ("train/cat/2.png", "cannot be read")),
    (lambda root: (root / "train/cat/2.png").write_bytes(b"no"), {}, ("train/cat/2.png", "cannot be read")),
    (cut_image, {}, ("train/cat/2.png", "cannot be read")),
    (two_odd_sizes, {}, ("train/cat/1.png", "data.image_size=8")),
    (other_size_in_test, {}, ("data.image_size=8",)),
    (lambda root: (root / "test/dog").rename(root / "test/dogs"), {}, ("'dogs'", "Did you mean 'dog'?")),
    (lambda root: (root / "train").rename(root.parent / "moved"), {}, ("no 'train'", "data.root=")),
    (lambda root: (root / "test").rename(root.parent / "moved"), {}, ("no 'test'", "data.root=")),
    (lambda root: root.rename(root.parent / "moved"), {}, ("TEMPO_DATA",)),
    (nothing, {"image_size": 0}, ("data.image_size=32",)),
]


@pytest.mark.parametrize(("change", "settings", "parts"), REFUSED)
def test_refused_in_one_line(
    root: Path, change: Callable[[Path], object], settings: dict[str, object], parts: tuple[str, ...]
) -> None:
    change(root)
    with pytest.raises(UserError) as error:
        load(root, **settings)
    assert "\n" not in str(error.value)
    assert all(part in str(error.value) for part in parts)


@pytest.mark.parametrize("test_size", [0.0, 1.0, 0, 30, -1, 0.001])
def test_impossible_test_sizes(single: Path, test_size: float) -> None:
    with pytest.raises(UserError, match=r"data\.test_size=0\.2"):
        load(single, test_size=test_size)


def test_a_folder_without_classes(tmp_path: Path) -> None:
    save(tmp_path / "flat" / "0.png")
    with pytest.raises(UserError, match="<class>"):
        load(tmp_path / "flat")
