"""Decode one image file to pixels of 8 bits, and say what was lost on the way."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torchvision.io
from PIL import ExifTags, Image, ImageCms

from tempo.data.deep_tiff import deep_tiff_values

Range = tuple[float, float]
"""Smallest and largest value of the pixels with more than 8 bits, over a data set."""

# Pillow's limit is one number for the process; `Decoding.most_pixels` is a key, checked before decoding.
Image.MAX_IMAGE_PIXELS = None
warnings.filterwarnings("ignore", message=".*TorchVision are deprecated")

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ONE_PICTURE = ("MPO", "PSD")
"""Formats whose further frames are previews or layers of the first."""


class UnreadableImageError(Exception):
    """A file is not an image that can be used; the message is the reason, without the file's name."""


@dataclass(frozen=True)
class Decoding:
    """Settings for decoding an image file.

    Attributes:
        channels: 3 for colour, 1 for grey.
        image_size: height and width in pixels to resize to (bilinear, antialiased), or None.
        background: colour (red, green, blue) behind transparent pixels.
        most_pixels: largest number of pixels of a file.
    """

    channels: int
    image_size: int | None
    background: tuple[int, int, int]
    most_pixels: int


class Decoded(NamedTuple):
    """Pixels of one image, uint8 `[C, H, W]`, and what happened to them.

    If the file has more than 8 bits per value and no range was given, `pixels` is None and `values` is the
    file's own range.
    """

    pixels: np.ndarray | None
    values: Range | None = None
    was_transparent: bool = False
    has_more_frames: bool = False
    lost_low_bits: bool = False


def decode_image(path: Path, how: Decoding, values: Range | None = None) -> Decoded:
    """Decode a file, upright according to its EXIF orientation.

    Values of more than 8 bits become `255 (x - low) / (high - low)` with `values = (low, high)`.

    Raises:
        UnreadableImageError: the file is not an image, is damaged or too large.
    """
    try:
        with Image.open(path) as opened:
            return _decode(opened, path, how, values)
    except (UnreadableImageError, MemoryError):
        raise
    except Exception as error:  # Pillow's readers raise any kind of error on a damaged file
        decoded = _decode_without_exif(path, how, values)
        if decoded is not None:
            return decoded
        reason = str(error).replace(repr(str(path)), "").strip()
        raise UnreadableImageError(reason or type(error).__name__) from error


def _decode_without_exif(path: Path, how: Decoding, values: Range | None) -> Decoded | None:
    """Decode a file whose EXIF tags are so damaged that Pillow gives up; None if they are not the reason."""
    try:
        content = path.read_bytes()
        if b"Exif\0\0" not in content[: 1 << 16]:
            return None
        with Image.open(io.BytesIO(content.replace(b"Exif\0\0", b"none\0\0", 1))) as opened:
            return _decode(opened, path, how, values)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 (the first error is the one to tell)
        return None


def _decode(opened: Image.Image, path: Path, how: Decoding, values: Range | None) -> Decoded:
    width, height = opened.size
    if width * height > how.most_pixels:
        megapixels = -(-width * height // 1_000_000)
        raise UnreadableImageError(
            f"{width}x{height} pixels are more than data.max_megapixels={how.most_pixels / 1e6:g} allows; if "
            f"you trust the file, set data.max_megapixels={megapixels}"
        )
    deep = _deep_values(opened, path)
    lost = deep is None and _has_16_bits(opened)
    opened.load()  # a TIFF turns itself upright here, and forgets its orientation
    turn = _turn(opened)
    image: Image.Image = opened
    if deep is not None:
        if values is None:
            return Decoded(None, _range_of(deep))
        image = _scaled(deep, values)
    if turn is not None:
        image = image.transpose(turn)
    image, transparent = _without_alpha(image, how.background)
    image = _with_channels(image, how.channels)
    if how.image_size is not None and image.size != (how.image_size, how.image_size):
        image = image.resize((how.image_size, how.image_size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    pixels = pixels.reshape(*pixels.shape[:2], how.channels).transpose(2, 0, 1)
    return Decoded(pixels, None, transparent, _has_more_frames(opened), lost)


def _has_16_bits(opened: Image.Image) -> bool:
    """Whether values in the file have more than 8 bits, by what Pillow tells its decoder about them."""
    tiles = getattr(opened, "tile", None)
    arguments: Any = tiles[0][3] if tiles else ""
    parts = arguments if isinstance(arguments, tuple) else (arguments,)
    largest = parts[1] if opened.format == "PPM" and len(parts) > 1 else 0  # 255 of 8 bits
    return ";16" in str(parts[0] if parts else "") or (isinstance(largest, int) and largest > 255)


def _deep_values(opened: Image.Image, path: Path) -> np.ndarray | None:
    """Return values of more than 8 bits, `[H, W]` or `[H, W, 2..4]`, or None if Pillow gives 8 bits.

    Pillow keeps the upper 8 bits of colour images with 16, so such a PNG is read by torchvision, and such a
    TIFF as a grey one.
    """
    if opened.mode in ("I", "F") or opened.mode.startswith("I;"):
        return np.asarray(opened)
    if opened.format == "TIFF" and _has_16_bits(opened):
        return deep_tiff_values(opened, path)
    decode_png = getattr(torchvision.io, "decode_png", None)  # deprecated, so it may go
    if opened.format != "PNG" or decode_png is None or not _has_16_bits(opened):
        return None
    content = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
    decoded: np.ndarray = decode_png(content).numpy()
    return decoded.transpose(1, 2, 0)


def _colours(deep: np.ndarray) -> np.ndarray:
    """Return the values without alpha."""
    return deep if deep.ndim == 2 else deep[..., : deep.shape[2] - 1 + deep.shape[2] % 2]


def _range_of(deep: np.ndarray) -> Range:
    colours = _colours(deep)
    if deep.ndim == 3 and deep.shape[2] % 2 == 0 and (visible := deep[..., -1] > 0).any():
        colours = colours[visible]
    low, high = float(colours.min()), float(colours.max())
    if not np.isfinite([low, high]).all():
        raise UnreadableImageError("it has pixels that are not finite numbers")
    return low, high


def _scaled(deep: np.ndarray, values: Range) -> Image.Image:
    """Return an image of 8 bits; `values` become 0 .. 255."""
    low, high = values
    factor = 255 / (high - low) if high > low else 0.0
    colours = np.rint((_colours(deep).astype(np.float64) - low) * factor).clip(0, 255).astype(np.uint8)
    if deep.ndim == 3 and deep.shape[2] % 2 == 0:
        colours = np.concatenate([colours, (deep[..., -1:] >> 8).astype(np.uint8)], axis=2)
    return Image.fromarray(colours)


def _turn(opened: Image.Image) -> Image.Transpose | None:
    """Return the turn that the EXIF orientation asks for; a damaged orientation asks for none."""
    try:
        return _TURNS.get(int(opened.getexif().get(ExifTags.Base.Orientation, 1)))
    except Exception:  # noqa: BLE001 (its readers raise any kind of error on damaged tags)
        return None


def _has_more_frames(opened: Image.Image) -> bool:
    if opened.format in _ONE_PICTURE:
        return False
    try:
        return bool(getattr(opened, "is_animated", False))
    except Exception:  # noqa: BLE001 (of a damaged second frame, which is not used)
        return True


def _without_alpha(image: Image.Image, background: tuple[int, int, int]) -> tuple[Image.Image, bool]:
    """Return the image over a background, and whether any pixel was transparent."""
    premultiplied = {"RGBa": "RGBA", "La": "LA"}.get(image.mode)
    if premultiplied is not None:
        image = image.convert(premultiplied)
    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return image, False
    image = image.convert("RGBA")
    if image.getchannel("A").getextrema()[0] == 255:
        return image.convert("RGB"), False
    canvas = Image.new("RGBA", image.size, (*background, 255))
    canvas.alpha_composite(image)
    return canvas.convert("RGB"), True


def _with_channels(image: Image.Image, channels: int) -> Image.Image:
    if image.mode == "LAB":  # which Pillow converts only by a colour profile
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
        assert converted is not None
        image = converted
    return image.convert("RGB" if channels == 3 else "L")
