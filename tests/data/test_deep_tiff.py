"""Colour TIFF files of 16 bits, which Pillow alone cuts to 8."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tempo.data.decode_image import Decoding, decode_image

RNG = np.random.default_rng(2)
COLOUR = Decoding(3, None, (255, 255, 255), 10**6)


def colour_tiff(values: np.ndarray, order: str, compression: int, predictor: int) -> bytes:
    """A TIFF of 16 bits per value in two strips, `[H, W, 3..4]`, which Pillow cannot write."""
    height, width, samples = values.shape
    stored = np.diff(values, axis=1, prepend=np.uint16(0)) if predictor == 2 else values
    rows = stored.astype(f"{order}u2")
    strips = [part.tobytes() for part in (rows[:5], rows[5:])]
    strips = [zlib.compress(strip) if compression == 8 else strip for strip in strips]
    start, fields = 8, []
    for tag, numbers in (
        (256, [width]),
        (257, [height]),
        (258, [16] * samples),
        (259, [compression]),
        (262, [2]),
        (273, [0, 0]),
        (277, [samples]),
        (278, [5]),
        (279, list(map(len, strips))),
        (317, [predictor]),
        *([(338, [2])] if samples == 4 else []),
    ):
        fields.append((tag, numbers))
    outside = start + 2 + 12 * len(fields) + 4
    data = outside + 4 * sum(len(numbers) for _, numbers in fields if len(numbers) > 1)
    entries, extra = b"", b""
    for tag, numbers in fields:
        numbers = [data, data + len(strips[0])] if tag == 273 else numbers
        packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
        entries += struct.pack(f"{order}HHI", tag, 4, len(numbers))
        entries += packed if len(numbers) == 1 else struct.pack(f"{order}I", outside + len(extra))
        extra += packed if len(numbers) > 1 else b""
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, start)
    return head + struct.pack(f"{order}H", len(fields)) + entries + bytes(4) + extra + b"".join(strips)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("compression", "predictor"), [(1, 1), (8, 1), (8, 2)])
@pytest.mark.parametrize("samples", [3, 4])
def test_a_colour_tiff_of_16_bits_keeps_them(
    samples: int, compression: int, predictor: int, order: str, tmp_path: Path
) -> None:
    values = RNG.integers(0, 1084, (8, 6, samples)).astype(np.uint16)
    if samples == 4:
        values[..., 3] = 65535
    (tmp_path / "a.tiff").write_bytes(colour_tiff(values, order, compression, predictor))
    assert np.asarray(Image.open(tmp_path / "a.tiff")).shape[:2] == (8, 6)  # Pillow reads it, with 5 levels
    assert decode_image(tmp_path / "a.tiff", COLOUR).values == (values[..., :3].min(), values[..., :3].max())
    decoded = decode_image(tmp_path / "a.tiff", COLOUR, (0, 1083))
    assert decoded.pixels is not None
    assert not decoded.lost_low_bits
    expected = np.rint(values[..., :3] * (255 / 1083)).transpose(2, 0, 1)
    assert (decoded.pixels == expected).all()
