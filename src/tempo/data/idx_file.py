"""Read IDX files, the format of MNIST and its relatives."""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from tempo.data.archive import MOST_BYTES, corrupt

_IDX_UINT8 = 0x08
_LONGEST_HEADER = 20


def parse_idx(content: bytes, path: Path, dimensions: int) -> np.ndarray:
    """Return the array of an IDX file: magic `00 00 type dimensions`, big-endian sizes, values.

    Raises:
        UserError: the content, read from `path`, is not such a file.
    """
    header = 4 * (1 + dimensions)
    if len(content) < header:
        raise corrupt(path, f"{len(content)} bytes")
    magic, *sizes = struct.unpack(f">{1 + dimensions}I", content[:header])
    if magic != _IDX_UINT8 << 8 | dimensions:
        raise corrupt(path, f"its magic number is {magic:#x}")
    count = math.prod(sizes)
    if len(content) != header + count:
        raise corrupt(path, f"{len(content)} bytes instead of {header + count}")
    return np.frombuffer(bytearray(content), dtype=np.uint8, offset=header).reshape(sizes)


def unzipped(content: bytes, path: Path) -> bytes:
    """Return the content of a gzip file; UserError if it is damaged."""
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise corrupt(path, str(error)) from error


def is_whole_idx(content: bytes) -> bool:
    """Whether content is an undamaged IDX file of bytes, with any number of dimensions."""
    return _has_length_of(content[:_LONGEST_HEADER], len(content))


def is_whole_gzipped_idx(content: bytes) -> bool:
    """Whether content is an undamaged gzip file of such a file; it is unpacked in blocks."""
    start, length = b"", 0
    try:
        with gzip.open(io.BytesIO(content)) as unpacked:
            while length <= MOST_BYTES and (block := unpacked.read(1 << 20)):
                start, length = start or block[:_LONGEST_HEADER], length + len(block)
    except (OSError, EOFError, zlib.error):
        return False
    return _has_length_of(start, length)


def _has_length_of(start: bytes, length: int) -> bool:
    """Whether a file that starts like this is an IDX file, and as long as its sizes say."""
    if start[:3] != bytes([0, 0, _IDX_UINT8]) or len(start) < 4:
        return False
    dimensions = start[3]
    header = 4 * (1 + dimensions)
    if not 0 < dimensions <= 4 or len(start) < header:
        return False
    return length == header + math.prod(struct.unpack(f">{dimensions}I", start[4:header]))
