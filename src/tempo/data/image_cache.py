"""Cache of decoded image files: one array per data set, held in memory or mapped from the disk."""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import os
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tempo.data.decode_files import Losses, Pixels, decode_all, digest_of_pixels, empty_array
from tempo.data.decode_image import Decoding
from tempo.data.folder_scan import File
from tempo.data.free_space import check_disk
from tempo.errors import UserError

_log = logging.getLogger(__name__)

Store = Literal["memory", "disk", "files"]
"""Place of the pixels during a run: memory, the mapped cache, or the files, decoded each time."""
# Part of the file's name: increase it if decoding changes.
_VERSION = 4
_WHOLE_BYTES, _WHOLE_FILES = 1 << 26, 4096
"""Up to so many bytes and files, a start reads the content of all files; otherwise of a sample."""
_SAMPLED_FILES, _SAMPLED_BYTES = 1024, 1 << 14
_SAMPLED_IMAGES = 256
"""Images of a mapped cache that are compared with their digests at a start."""


def load_images(root: Path, files: Sequence[File], how: Decoding, cache: Path, store: Store) -> Pixels:
    """Return the files' pixels, from the cache if it has them.

    The cache is a `.npy` file with a `.json` of the losses and the images' digests, named by the tree (path
    and options), the state of the files and a checksum of the `.json`. It appears complete or not at all, and
    a damaged one is decoded again. With `store="disk"` the array is decoded into the file and mapped, so
    memory holds only the pages in use. With `store="memory"`, a cache that cannot be written is a warning.
    The state is names, sizes, times and a digest of content: of all files of a small data set, of a sample of
    a large one.

    Raises:
        UserError: images cannot be read, one has another size than the first, or there is too little space.
    """
    tree = _hex((str(root.resolve()), asdict(how)))
    state = _hex((_VERSION, [tuple(file) for file in files], content_digest(root, files)))
    stem = f"{root.resolve().name}-{tree}"
    for path in sorted(cache.glob(f"{glob.escape(stem)}-{state}-*.npy")):
        found = _read(path, len(files), how.channels, store)
        if found is not None:
            return found
        _log.warning("%s is damaged: decoding the images again.", path)
    _log.info("Decoding %d images of %s, once.", len(files), root)
    names = [file.name for file in files]
    if store == "disk":
        return _decode_to_disk(root, names, how, cache, f"{stem}-{state}")
    found = decode_all(root, names, how, empty_array)
    try:
        _write(cache, stem, state, found)
    except OSError as error:
        _log.warning(
            "The decoded images stay in memory only: %s cannot be written (%s); set data.cache=<folder>.",
            cache,
            error.strerror,
        )
    return found


def content_digest(root: Path, files: Sequence[File]) -> str:
    """Return a digest of the files' content, of a sample if reading all would take long.

    The sample has 1,024 files, evenly spaced, of each of which it reads three blocks: the first, the middle
    and the last. A file that cannot be read is left out: decoding it will name the reason.
    """
    whole = len(files) <= _WHOLE_FILES and sum(file.size for file in files) <= _WHOLE_BYTES
    count = len(files) if whole else min(len(files), _SAMPLED_FILES)
    digest = hashlib.blake2b(digest_size=16)
    for index in range(count):
        file = files[index * len(files) // count]
        try:
            with (root / file.name).open("rb") as stream:
                if whole or file.size <= 3 * _SAMPLED_BYTES:
                    digest.update(stream.read())
                    continue
                for start in (0, (file.size - _SAMPLED_BYTES) // 2, file.size - _SAMPLED_BYTES):
                    stream.seek(start)
                    digest.update(stream.read(_SAMPLED_BYTES))
        except OSError:
            continue
    return digest.hexdigest()


def _read(path: Path, count: int, channels: int, store: Store) -> Pixels | None:
    """Return the content of a cache file, or None if it does not match the file's name or its digests."""
    try:
        images = np.load(path, mmap_mode="r" if store == "disk" else None, allow_pickle=False)
        text = path.with_suffix(".json").read_text(encoding="utf-8")
        table = json.loads(text)
        losses = Losses(**table["losses"])
        digests = np.frombuffer(bytes.fromhex(table["digests"]), dtype=np.uint64).reshape(-1, 2)
    except (OSError, ValueError, EOFError, TypeError, KeyError):
        return None
    whole = images.dtype == np.uint8 and images.ndim == 4 and images.shape[:2] == (count, channels)
    if not whole or len(digests) != count or not path.stem.endswith(_checksum(text)):
        return None
    found = Pixels(images, losses, digests, path if store == "disk" else None)
    checked = count if store == "memory" else min(count, _SAMPLED_IMAGES)
    sample = np.unique(np.linspace(0, count - 1, checked).astype(int))
    return (
        found if all((digest_of_pixels(images[index]) == digests[index]).all() for index in sample) else None
    )


def _write(cache: Path, stem: str, state: str, pixels: Pixels) -> None:
    """Write pixels and their table into the cache and remove those of older states of the same tree."""
    text = _table(pixels)
    path = cache / f"{stem}-{state}-{_checksum(text)}.npy"
    part = _unfinished(cache, path.name)
    cache.mkdir(parents=True, exist_ok=True)
    try:
        with part.open("wb") as stream:
            np.save(stream, pixels.images, allow_pickle=False)
        _finish(part, path, text)
    finally:
        part.unlink(missing_ok=True)


def _decode_to_disk(root: Path, names: Sequence[str], how: Decoding, cache: Path, stem: str) -> Pixels:
    """Decode files into a mapped file of the cache."""
    part = _unfinished(cache, stem)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        pixels = decode_all(root, names, how, partial(_mapped_array, part))
        text = _table(pixels)
        path = cache / f"{stem}-{_checksum(text)}.npy"
        assert isinstance(pixels.images, np.memmap)
        pixels.images.flush()
        _finish(part, path, text)
    except OSError as error:
        raise UserError(
            f"data.store=disk keeps the decoded images in {cache}, which cannot be written "
            f"({error.strerror}); set data.cache=<folder>, or data.store=files"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return Pixels(np.load(path, mmap_mode="r", allow_pickle=False), pixels.losses, pixels.digests, path)


def _mapped_array(part: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Return an array in a file whose space on the disk is reserved: a full disk would else be a SIGBUS."""
    check_disk(part.parent, shape)
    array = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
    with part.open("r+b") as stream:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, part.stat().st_size)
    return array


def _finish(part: Path, path: Path, text: str) -> None:
    """Give a complete array its name, and remove older arrays of the same tree."""
    table = path.with_suffix(".json")
    table_part = part.with_name(f"{part.name}.json")
    try:
        table_part.write_text(text, encoding="utf-8")
        table_part.replace(table)
    finally:
        table_part.unlink(missing_ok=True)
    part.replace(path)
    tree = path.name.rsplit("-", 2)[0]
    for old in path.parent.glob(f"{glob.escape(tree)}-*"):
        if old not in (path, table):
            old.unlink(missing_ok=True)


def _unfinished(cache: Path, name: str) -> Path:
    return cache / f".{name}.{os.getpid()}"


def _table(pixels: Pixels) -> str:
    return json.dumps({"losses": asdict(pixels.losses), "digests": pixels.digests.tobytes().hex()})


def _hex(value: Any) -> str:
    return hashlib.sha256(repr(value).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
