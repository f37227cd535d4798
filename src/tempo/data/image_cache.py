"""Decode image files once, hold their pixels in memory, and read the cached array in later runs."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import logging
import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tempo.data.decode_image import Decoded, Decoding, Range, UnreadableImageError, decode_image
from tempo.data.folder_names import shown
from tempo.data.folder_scan import File
from tempo.errors import UserError

_log = logging.getLogger(__name__)

# Part of the file's name: increase it if decoding changes.
_VERSION = 2
_BLOCK_IMAGES = 64
_MOST_NAMED = 10
_DARK = 64
"""Brightest value (of 255) from which images of 16 bits count as using them: 14 bits or more."""
_WHOLE_BYTES, _WHOLE_FILES = 1 << 26, 4096
"""Up to so many bytes and files, a start reads the content of all files; otherwise of a sample."""
_SAMPLED_FILES, _SAMPLED_BYTES = 1024, 1 << 14


@dataclass
class Losses:
    """Images that lost something when they became pixels of 8 bits: their number by kind, and the first."""

    transparent: int = 0
    more_frames: int = 0
    lost_low_bits: int = 0
    constant: int = 0
    deep: int = 0
    """Images with more than 8 bits, scaled by `values`."""
    values: list[float] | None = None
    first: dict[str, str] = field(default_factory=dict)
    """Name of the first file of each kind."""

    def add(self, kind: str, name: str) -> None:
        """Count one more image."""
        setattr(self, kind, getattr(self, kind) + 1)
        self.first.setdefault(kind, shown(name))


@dataclass
class Pixels:
    """The images of a data set, uint8 `[N, C, H, W]`, and what they lost."""

    images: np.ndarray
    losses: Losses


def load_images(root: Path, files: Sequence[File], how: Decoding, cache: Path) -> Pixels:
    """Return the files' pixels, from the cache if it has them.

    The cache is a `.npy` file with a `.json` of the losses, named by the tree (path and options), the state
    of the files and a checksum of the content. It appears complete or not at all, and a damaged one is
    decoded again. If it cannot be written, a warning says so and the images stay in memory. The state is
    names, sizes, times and a digest of content: of all files of a small data set, of a sample of a large one.

    Raises:
        UserError: images cannot be read, or one has another size than the first.
    """
    tree = _hex((str(root.resolve()), asdict(how)))
    state = _hex((_VERSION, [tuple(file) for file in files], content_digest(root, files)))
    stem = f"{root.resolve().name}-{tree}"
    for path in sorted(cache.glob(f"{glob.escape(stem)}-{state}-*.npy")):
        found = _read(path, len(files), how.channels)
        if found is not None:
            return found
        _log.warning("%s is damaged: decoding the images again.", path)
    _log.info("Decoding %d images of %s, once.", len(files), root)
    found = decode_all(root, [file.name for file in files], how)
    _write(cache, stem, state, found)
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


def decode_all(root: Path, names: Sequence[str], how: Decoding) -> Pixels:
    """Return the files' pixels, decoded on all cores: Pillow releases Python's lock.

    Files with more than 8 bits are decoded twice: first for the range of values over all of them.
    """
    decoder = _Decoder(root, names, how)
    deep = decoder.decode(range(len(names)), None)
    if decoder.unreadable or decoder.images is None:
        raise decoder.refusal()
    if deep:
        values = (min(low for low, _ in deep.values()), max(high for _, high in deep.values()))
        decoder.decode(sorted(deep), values)
        decoder.losses.values = list(values)
        for index in sorted(deep):
            decoder.losses.add("deep", names[index])
    decoder.refuse_dark()
    for start in range(0, len(names), _BLOCK_IMAGES):
        block = decoder.images[start : start + _BLOCK_IMAGES].reshape(-1, decoder.images[0].size)
        for offset in np.flatnonzero(block.min(axis=1) == block.max(axis=1)):
            decoder.losses.add("constant", names[start + int(offset)])
    return Pixels(decoder.images, decoder.losses)


class _Decoder:
    """Decodes files in threads into one array; losses are counted in the order of the files."""

    def __init__(self, root: Path, names: Sequence[str], how: Decoding) -> None:
        self.root, self.names, self.how = root, names, how
        self.losses = Losses()
        self.unreadable: list[tuple[int, str]] = []
        self.cut: list[int] = []
        """Images of which only the upper 8 of 16 bits are read."""
        self.images, self.first = self._empty()

    def _empty(self) -> tuple[np.ndarray | None, str]:
        """Return an array with the shape of the first readable file, and its name."""
        for name in self.names:
            with contextlib.suppress(UnreadableImageError):
                pixels = decode_image(self.root / name, self.how, (0.0, 1.0)).pixels
                assert pixels is not None
                return np.empty((len(self.names), *pixels.shape), dtype=np.uint8), name
        return None, ""

    def decode(self, indices: Sequence[int], values: Range | None) -> dict[int, Range]:
        """Decode files; if `values` is None, return the range of each that has more than 8 bits."""
        deep: dict[int, Range] = {}
        # In blocks, because submitting one small image costs as much as decoding it.
        blocks = [indices[start : start + _BLOCK_IMAGES] for start in range(0, len(indices), _BLOCK_IMAGES)]
        with ThreadPoolExecutor() as pool:
            try:
                for found in pool.map(partial(self._decode_block, values=values), blocks):
                    for index, decoded in found:
                        if isinstance(decoded, UnreadableImageError):
                            self.unreadable.append((index, str(decoded)))
                        elif decoded.values is not None:
                            deep[index] = decoded.values
                        else:
                            self._count(index, decoded)
            except UserError:
                pool.shutdown(cancel_futures=True)
                raise
        return deep

    def _decode_block(
        self, block: Sequence[int], values: Range | None
    ) -> list[tuple[int, Decoded | UnreadableImageError]]:
        """Decode files into the array; return what happened to them."""
        found: list[tuple[int, Decoded | UnreadableImageError]] = []
        for index in block:
            try:
                decoded = decode_image(self.root / self.names[index], self.how, values)
            except UnreadableImageError as error:
                found.append((index, error))
                continue
            if decoded.pixels is not None:
                self._keep(index, decoded.pixels)
            found.append((index, decoded._replace(pixels=None)))
        return found

    def _keep(self, index: int, pixels: np.ndarray) -> None:
        assert self.images is not None
        if pixels.shape != self.images.shape[1:]:
            height, width = self.images.shape[2:]
            raise UserError(
                f"{self.root / self.names[index]} is {pixels.shape[2]}x{pixels.shape[1]} pixels, but "
                f"{self.first} is {width}x{height}; set data.image_size={min(height, width)} to resize all"
            )
        self.images[index] = pixels

    def _count(self, index: int, decoded: Decoded) -> None:
        for kind, happened in (
            ("transparent", decoded.was_transparent),
            ("more_frames", decoded.has_more_frames),
            ("lost_low_bits", decoded.lost_low_bits),
        ):
            if happened:
                self.losses.add(kind, self.names[index])
        if decoded.lost_low_bits:
            self.cut.append(index)

    def refuse_dark(self) -> None:
        """Refuse images of 16 bits of which Pillow keeps the upper 8, if nearly all is in the lower ones."""
        if not self.cut or self.images is None:
            return
        brightest = max(int(self.images[index].max()) for index in self.cut)
        if brightest < _DARK:
            raise UserError(
                f"{len(self.cut)} colour images of 16 bits use so few of them that the upper 8, which Pillow "
                f"reads, have only {brightest + 1} levels (first: {self.losses.first['lost_low_bits']}); "
                "convert them to PNG, whose 16 bits are scaled by the values they use, or to 8 bits"
            )

    def refusal(self) -> UserError:
        """Return the error that names the first unreadable files."""
        count = len(self.unreadable)
        if count == 1:
            index, reason = self.unreadable[0]
            path = self.root / self.names[index]
            return UserError(f"{path} cannot be read as an image ({reason}); repair or remove it")
        named = [f"{shown(self.names[index])} ({reason})" for index, reason in self.unreadable[:_MOST_NAMED]]
        more = f", and {count - _MOST_NAMED} more" if count > _MOST_NAMED else ""
        return UserError(
            f"{count} of {len(self.names)} files of {self.root} cannot be read as images; repair or remove "
            f"them: {', '.join(named)}{more}"
        )


def _read(path: Path, count: int, channels: int) -> Pixels | None:
    """Return the content of a cache file, or None if it does not match the file's name."""
    try:
        images = np.load(path, allow_pickle=False)
        text = path.with_suffix(".json").read_text(encoding="utf-8")
        losses = Losses(**json.loads(text))
    except (OSError, ValueError, EOFError, TypeError):
        return None
    whole = images.dtype == np.uint8 and images.ndim == 4 and images.shape[:2] == (count, channels)
    return Pixels(images, losses) if whole and path.stem.endswith(_checksum(images, text)) else None


def _write(cache: Path, stem: str, state: str, pixels: Pixels) -> None:
    """Write pixels and losses into the cache and remove those of older states of the same tree."""
    text = json.dumps(asdict(pixels.losses))
    path = cache / f"{stem}-{state}-{_checksum(pixels.images, text)}.npy"
    table = path.with_suffix(".json")
    partial = cache / f".{path.name}.{os.getpid()}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_text(text, encoding="utf-8")
            partial.replace(table)
            with partial.open("wb") as stream:
                np.save(stream, pixels.images, allow_pickle=False)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        for old in cache.glob(f"{glob.escape(stem)}-*"):
            if old not in (path, table):
                old.unlink(missing_ok=True)
    except OSError as error:
        _log.warning(
            "The decoded images stay in memory only: %s cannot be written (%s); set data.cache=<folder>.",
            cache,
            error.strerror,
        )


def _hex(value: Any) -> str:
    return hashlib.sha256(repr(value).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _checksum(images: np.ndarray, text: str) -> str:
    """Return the CRC-32 of pixels and losses: fast, and sufficient against damage."""
    return f"{zlib.crc32(text.encode(), zlib.crc32(np.ascontiguousarray(images).data)):08x}"
