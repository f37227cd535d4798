"""Pixels as people's files have them: transparency, many bits, frames, damaged tags, odd formats."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tempo.data.decode_image import Decoding, UnreadableImageError, decode_image
from tempo.data.folder import folder
from tempo.data.images import ImageData
from tempo.errors import UserError

RNG = np.random.default_rng(2)
COLOUR = Decoding(3, None, (255, 255, 255), 10**6)
GREY = Decoding(1, None, (255, 255, 255), 10**6)
SHAPE = np.zeros((8, 8), dtype=np.uint8)
SHAPE[2:6, 3:5] = 255
"""A stroke: 255 is opaque."""


def load(root: Path, **changes: object) -> tuple[ImageData, ...]:
    settings = {"image_size": None, "channels": 3, "test_size": 2, "test_seed": 0}
    return folder(root=str(root), cache=str(root.parent / "cache"), **(settings | changes))


def two_classes(root: Path, save: Callable[[Path, int], object], count: int = 4) -> Path:
    """Save `count` files per class: `save(path, number)`, `path` without a suffix."""
    for number in range(2 * count):
        path = root / "pets" / ("cat", "dog")[number % 2] / str(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path, number)
    return root / "pets"


def deep_png(values: np.ndarray) -> bytes:
    """A PNG of 16 bits per value, `[H, W, C]` with 1 to 4 channels, which Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = values.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def drawing(mode: str) -> tuple[Image.Image, dict[str, object]]:
    """A black stroke on nothing, as a browser's canvas saves it; every colour under the alpha is black."""
    if mode == "P":
        image = Image.fromarray(SHAPE // 255, "P") if False else Image.new("P", (8, 8))
        image.putpalette([0, 0, 0] * 256)
        image.putdata([int(value // 255) for value in SHAPE.ravel()])
        return image, {"transparency": 0}
    alpha = Image.fromarray(SHAPE)
    image = Image.new(mode, (8, 8))
    image.putalpha(alpha)
    return image, {}


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tiff"])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_a_transparent_drawing_is_laid_on_the_background(mode: str, suffix: str, tmp_path: Path) -> None:
    image, options = drawing(mode)
    if suffix != ".png" and mode == "P":
        image, options = image.convert("RGBA") if suffix == ".webp" else drawing("RGBA")[0], {}
        image.putalpha(Image.fromarray(SHAPE))
    path = tmp_path / f"drawing{suffix}"
    image.save(path, **({"lossless": True} if suffix == ".webp" else {}), **options)
    decoded = decode_image(path, COLOUR)
    assert decoded.was_transparent
    assert decoded.pixels is not None
    assert (decoded.pixels == 255 - SHAPE).all()
    red = decode_image(path, Decoding(3, None, (255, 0, 0), 10**6)).pixels
    assert red is not None
    assert (red[0] == 255 - SHAPE).all()
    assert not red[1:].any()
    grey = decode_image(path, GREY).pixels
    assert grey is not None
    assert (grey[0] == 255 - SHAPE).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_opaque_image_keeps_its_bits(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(RNG.integers(0, 256, (8, 8, len(mode)), dtype=np.uint8))
    image.putalpha(255)
    image.save(tmp_path / "a.png")
    for how, plain in ((COLOUR, "RGB"), (GREY, "L")):
        decoded = decode_image(tmp_path / "a.png", how)
        assert decoded.pixels is not None
        assert not decoded.was_transparent
        expected = np.asarray(image.convert(plain)).reshape(8, 8, -1).transpose(2, 0, 1)
        assert (decoded.pixels == expected).all()


def test_the_background_is_recorded_and_its_key_is_checked(tmp_path: Path) -> None:
    def save(path: Path, number: int) -> None:
        image = Image.new("RGBA", (8, 8))
        image.putalpha(Image.fromarray(np.roll(SHAPE, number)))
        image.save(path.with_suffix(".png"))

    root = two_classes(tmp_path, save)
    train, _ = load(root, background="#102030")
    assert any("transparent images: 8" in line and "#102030" in line for line in train.remarks)
    assert train.reading["transparent"] == 8
    assert train.images[0].float().std() > 0
    with pytest.raises(
        UserError, match=r"data\.background=no colour is not a colour; set data\.background=white"
    ):
        load(root, background="no colour")


@pytest.mark.parametrize("most", [255, 1083, 4095, 65535])
@pytest.mark.parametrize("channels", [1, 3])
def test_files_of_16_bits_keep_the_range_that_the_data_set_uses(
    channels: int, most: int, tmp_path: Path
) -> None:
    """Both sets are scaled by one range, which is recorded."""
    arrays = {}

    def save(path: Path, number: int) -> None:
        values = RNG.integers(0, most // 2, (16, 16, channels)).astype(np.uint16)
        if number == 7:
            values[0, 0], values[0, 1] = 0, most
        arrays[path.name] = values
        path.with_suffix(".png").write_bytes(deep_png(values))

    root = two_classes(tmp_path, save)
    train, test = load(root, channels=channels)
    low = min(array.min() for array in arrays.values())
    found = {image.numpy().tobytes() for part in (train, test) for image in part.images}
    expected = {
        np.rint((array.astype(float) - low) * 255 / (most - low))
        .astype(np.uint8)
        .transpose(2, 0, 1)
        .tobytes()
        for array in arrays.values()
    }
    assert found == expected
    assert train.reading["values"] == [low, most]
    assert any(f"values {low:g} .. {most:g} became 0 .. 255" in line for line in train.remarks)


@pytest.mark.parametrize(
    "array",
    [
        RNG.integers(0, 2**12, (8, 8)).astype(np.uint16),
        RNG.integers(-1000, 3000, (8, 8)).astype(np.int32),
        RNG.normal(size=(8, 8)).astype(np.float32),
    ],
    ids=["12 of 16 bits", "integers", "floats"],
)
def test_tiffs_of_other_values_are_scaled_too(array: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(array).save(tmp_path / "a.tiff")
    values = decode_image(tmp_path / "a.tiff", GREY).values
    assert values == (array.min(), array.max())
    pixels = decode_image(tmp_path / "a.tiff", GREY, values).pixels
    assert pixels is not None
    expected = np.rint((array.astype(float) - values[0]) * 255 / (values[1] - values[0]))
    assert (pixels[0] == expected).all()


@pytest.mark.parametrize("most", [1083, 65535])
def test_colours_of_16_bits_that_pillow_cuts_are_said_or_refused(most: int, tmp_path: Path) -> None:
    """A PPM announces 16 bits."""

    def save(path: Path, number: int) -> None:
        values = RNG.integers(0, most + 1, (8, 8, 3)).astype(">u2")
        path.with_suffix(".ppm").write_bytes(b"P6 8 8 65535\n" + values.tobytes())

    root = two_classes(tmp_path, save)
    if most == 1083:
        with pytest.raises(
            UserError, match=r"8 colour images of 16 bits .* only 5 levels .* convert them to PNG"
        ):
            load(root)
        return
    train, _ = load(root)
    assert train.reading["lost_low_bits"] == 8
    assert any(line.startswith("colour images of 16 bits: 8, of which the upper 8") for line in train.remarks)


def test_a_pixel_that_is_no_number_is_refused(tmp_path: Path) -> None:
    array = np.ones((8, 8), dtype=np.float32)
    array[3, 3] = np.nan
    Image.fromarray(array).save(tmp_path / "a.tiff")
    with pytest.raises(UnreadableImageError, match="not finite"):
        decode_image(tmp_path / "a.tiff", GREY)


def test_alpha_of_16_bits(tmp_path: Path) -> None:
    values = np.zeros((8, 8, 4), dtype=np.uint16)
    values[..., 0] = 1000
    values[..., 3] = SHAPE.astype(np.uint16) * 257
    (tmp_path / "a.png").write_bytes(deep_png(values))
    assert decode_image(tmp_path / "a.png", COLOUR).values == (0, 1000)
    decoded = decode_image(tmp_path / "a.png", COLOUR, (0, 1000))
    assert decoded.pixels is not None
    assert (decoded.pixels[0] == 255).all()
    assert (decoded.pixels[1] == 255 - SHAPE).all()


@pytest.mark.parametrize("suffix", [".gif", ".tiff", ".png", ".webp"])
def test_further_frames_are_said(suffix: str, tmp_path: Path) -> None:
    def save(path: Path, number: int) -> None:
        frames = [Image.new("RGB", (8, 8), (50 * number % 256, shade, 200)) for shade in (0, 128, 255)]
        frames[0].putpixel((0, 0), (255, 255, 255))
        frames[0].save(
            path.with_suffix(suffix), save_all=True, append_images=frames[1:] if number < 2 else []
        )

    train, _ = load(two_classes(tmp_path, save))
    assert train.reading["more_frames"] == 2
    assert any("files with several frames or pages: 2, of which the first" in line for line in train.remarks)


def test_the_first_frame_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    pixels = decode_image(tmp_path / "a.gif", COLOUR).pixels
    assert pixels is not None
    assert pixels[:, 4, 4].tolist() == [255, 0, 0]


def test_images_of_one_colour_are_counted(tmp_path: Path) -> None:
    def save(path: Path, number: int) -> None:
        pixels = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8) if number else np.zeros((8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(path.with_suffix(".png"))

    train, _ = load(two_classes(tmp_path, save))
    assert train.remarks == ("images of one colour: 1 (first: cat/0.png)",)


def jpeg_with_tags(path: Path, *tags: bytes) -> np.ndarray:
    """A JPEG turned by orientation 6, with further tags; its upright pixels."""
    Image.fromarray(RNG.integers(0, 256, (8, 12, 3), dtype=np.uint8)).save(path, quality=95)
    upright = np.asarray(Image.open(path).rotate(-90, expand=True))
    orientation = struct.pack("<HHII", 0x112, 3, 1, 6)
    entries = [orientation, *tags]
    exif = b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(4)
    segment = b"Exif\0\0" + exif
    content = path.read_bytes()
    path.write_bytes(content[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + content[2:])
    return upright


TAGS = {
    "a NaN": struct.pack("<HHIf", 0x11A, 11, 1, float("nan")),
    "infinite": struct.pack("<HHIf", 0x11A, 11, 1, float("inf")),
    "a negative width": struct.pack("<HHIi", 0x100, 9, 1, -5),
    "text as a number": struct.pack("<HHI4s", 0x100, 2, 4, b"abc\0"),
    "text as a resolution": struct.pack("<HHI4s", 0x11A, 2, 4, b"abc\0"),
    "a table that is elsewhere": struct.pack("<HHII", 0x8769, 4, 1, 0xFFFFFFFF),
}


@pytest.mark.parametrize("tag", TAGS.values(), ids=TAGS)
def test_a_damaged_tag_does_not_matter(tag: bytes, tmp_path: Path) -> None:
    upright = jpeg_with_tags(tmp_path / "a.jpg", tag)
    pixels = decode_image(tmp_path / "a.jpg", COLOUR).pixels
    assert pixels is not None
    assert (pixels == upright.transpose(2, 0, 1)).all()


def test_damaged_tags_of_any_kind_never_refuse_a_good_image(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    for _ in range(300):
        jpeg_with_tags(path, *TAGS.values())
        content = bytearray(path.read_bytes())
        for position in RNG.integers(12, 12 + 8 + 12 * len(TAGS), size=4):
            content[position] = RNG.integers(0, 256)
        path.write_bytes(content)
        assert decode_image(path, COLOUR).pixels is not None


def test_all_unreadable_files_are_named_at_once(tmp_path: Path) -> None:
    def save(path: Path, number: int) -> None:
        Image.fromarray(RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path.with_suffix(".png"))
        if number % 3 == 0:
            path.with_suffix(".png").write_bytes(b"no image")

    root = two_classes(tmp_path, save, count=20)
    with pytest.raises(UserError) as error:
        load(root)
    message = str(error.value)
    assert message.startswith(f"14 of 40 files of {root} cannot be read as images")
    assert message.count(".png (") == 10
    assert message.endswith("and 4 more")
    assert "cat/0.png" in message


def test_a_large_image_is_allowed_by_a_key(tmp_path: Path) -> None:
    def save(path: Path, number: int) -> None:
        Image.new("RGB", (2000, 1000), (number, 0, 0)).save(path.with_suffix(".png"))

    root = two_classes(tmp_path, save, count=2)
    with pytest.raises(
        UserError, match=r"4 of 4 files .*2000x1000 pixels .* set data\.max_megapixels=2"
    ) as error:
        load(root, image_size=8, max_megapixels=1.5)
    assert "if you trust the file" in str(error.value)
    train, test = load(root, image_size=8, max_megapixels=2)
    assert len(train) + len(test) == 4


def test_colours_of_a_lab_image(tmp_path: Path) -> None:
    Image.new("LAB", (8, 8), (255, 128, 128)).save(tmp_path / "a.tiff")
    pixels = decode_image(tmp_path / "a.tiff", COLOUR).pixels
    assert pixels is not None
    assert (pixels > 250).all()
