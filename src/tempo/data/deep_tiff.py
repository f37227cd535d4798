"""Read colour TIFF files of 16 bits, of which Pillow alone keeps the upper 8."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_OFFSETS, _SAMPLES, _ROWS, _BYTES, _PLANAR, _PREDICTOR = 273, 277, 278, 279, 284, 317
_RGB, _DARK_IS_ZERO = 2, 1
_DIFFERENCES = 2
"""Predictor: a value is the difference from the pixel to the left."""
_NO_PIXELS = (1, 5, 8, 32773, 32946, 34925, 50000)
"""Compressions of plain bytes: none, LZW, deflate (two numbers), PackBits, LZMA, Zstandard."""


def deep_tiff_values(opened: Image.Image, path: Path) -> np.ndarray | None:
    """Return the values of a colour TIFF of 16 bits, uint16 `[H, W, 3..4]`; None for any other file.

    Its bytes are read as a grey image with C values per pixel side by side, `[H, W C]`, of which Pillow keeps
    all bits. The compressions do not know of pixels; differences between pixels are summed here.
    """
    if not isinstance(opened, TiffImagePlugin.TiffImageFile):
        return None
    tags: Any = opened.tag_v2
    samples, predictor = int(tags.get(_SAMPLES, 1)), int(tags.get(_PREDICTOR, 1))
    compression = int(tags.get(_COMPRESSION, 1))
    if (
        samples not in (3, 4)
        or {*tags.get(_BITS, ())} != {16}
        or (tags.get(_PHOTOMETRIC), tags.get(_PLANAR, 1), tags.get(_FILL_ORDER, 1)) != (_RGB, 1, 1)
        or compression not in _NO_PIXELS
        or predictor > _DIFFERENCES
        or _OFFSETS not in tags
    ):
        return None
    width, height = int(tags[_WIDTH]), int(tags[_HEIGHT])
    content = path.read_bytes()
    strips = [content[start : start + size] for start, size in zip(tags[_OFFSETS], tags[_BYTES], strict=True)]
    fields = {
        _WIDTH: [width * samples],
        _HEIGHT: [height],
        _BITS: [16],
        _COMPRESSION: [compression],
        _PHOTOMETRIC: [_DARK_IS_ZERO],
        _SAMPLES: [1],
        _ROWS: [min(int(tags.get(_ROWS, height)), height)],
    }
    with Image.open(io.BytesIO(_tiff(content[:2], fields, strips))) as grey:
        values = np.asarray(grey).astype(np.uint16).reshape(height, width, samples)
    return values.cumsum(axis=1, dtype=np.uint16) if predictor == _DIFFERENCES else values


def _tiff(byte_order: bytes, fields: dict[int, list[int]], strips: list[bytes]) -> bytes:
    """Return a TIFF file with these fields, all of 32 bits, and these strips."""
    order = "<" if byte_order == b"II" else ">"
    sizes = [len(strip) for strip in strips]
    starts = [8 + int(end) - size for end, size in zip(np.cumsum(sizes), sizes, strict=True)]
    fields = {**fields, _OFFSETS: starts, _BYTES: sizes}
    data = b"".join(strips)
    data += b"\0" * (len(data) % 2)
    after = 8 + len(data) + 2 + 12 * len(fields) + 4
    entries, outside = b"", b""
    for tag, numbers in sorted(fields.items()):
        packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
        where = packed if len(numbers) == 1 else struct.pack(f"{order}I", after + len(outside))
        outside += b"" if len(numbers) == 1 else packed
        entries += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + where
    head = byte_order + struct.pack(f"{order}HI", 42, 8 + len(data))
    return head + data + struct.pack(f"{order}H", len(fields)) + entries + bytes(4) + outside
