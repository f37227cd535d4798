"""Decode many image files on all cores, and count what they lose."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from tempo.data.decode_image import Decoded, Decoding, Range, UnreadableImageError, decode_image
from tempo.data.folder_names import shown
from tempo.data.free_space import check_memory
from tempo.errors import UserError

_BLOCK_IMAGES = 64
_MOST_NAMED = 10
_DARK = 64
"""Brightest value (of 255) from which images of 16 bits count as using them: 14 bits or more."""


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
    digests: np.ndarray
    """Digest of each image's pixels, uint64 `[N, 2]`: equal only for equal pixels."""
    path: Path | None = None
    """File that `images` is mapped from, if it is."""


def empty_array(shape: tuple[int, ...]) -> np.ndarray:
    """Return an array in memory, uint8; UserError if there is not enough of it."""
    check_memory(shape)
    return np.empty(shape, dtype=np.uint8)


def digest_of_pixels(pixels: np.ndarray) -> np.ndarray:
    """Return 128 bits of the SHA-256 of an image's pixels, uint64 `[2]`."""
    content = hashlib.sha256(np.ascontiguousarray(pixels).data).digest()
    return np.frombuffer(content[:16], dtype=np.uint64)


def decode_all(
    root: Path, names: Sequence[str], how: Decoding, allocate: Callable[[tuple[int, ...]], np.ndarray]
) -> Pixels:
    """Return the files' pixels, decoded on all cores: Pillow releases Python's lock.

    `allocate` returns the array for them, by its shape.

    Files with more than 8 bits are decoded twice: first for the range of values over all of them.
    """
    decoder = _Decoder(root, names, how, allocate)
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
    for constant in np.flatnonzero(decoder.is_constant):
        decoder.losses.add("constant", names[int(constant)])
    return Pixels(decoder.images, decoder.losses, decoder.digests)


class _Decoder:
    """Decodes files in threads into one array; losses are counted in the order of the files."""

    def __init__(
        self,
        root: Path,
        names: Sequence[str],
        how: Decoding,
        allocate: Callable[[tuple[int, ...]], np.ndarray],
    ) -> None:
        self.root, self.names, self.how = root, names, how
        self.losses = Losses()
        self.unreadable: list[tuple[int, str]] = []
        self.cut: list[int] = []
        """Images of which only the upper 8 of 16 bits are read."""
        self.is_constant = np.zeros(len(names), dtype=bool)
        self.digests = np.zeros((len(names), 2), dtype=np.uint64)
        self.images, self.first = self._empty(allocate)

    def _empty(self, allocate: Callable[[tuple[int, ...]], np.ndarray]) -> tuple[np.ndarray | None, str]:
        """Return an array with the shape of the first readable file, and its name."""
        for name in self.names:
            with contextlib.suppress(UnreadableImageError):
                pixels = decode_image(self.root / name, self.how, (0.0, 1.0)).pixels
                assert pixels is not None
                return allocate((len(self.names), *pixels.shape)), name
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
        # Here the pixels are in the processor's cache, and all cores take part.
        self.digests[index] = digest_of_pixels(pixels)
        self.is_constant[index] = pixels.min() == pixels.max()

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
