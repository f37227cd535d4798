"""Augmentation and normalization of whole batches, with one random draw per image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from tempo.data.mapped_images import MappedImages
from tempo.errors import UserError

# Columns of a draw.
ROW, COLUMN, FLIP, CUTOUT_ROW, CUTOUT_COLUMN = range(5)

_STATISTICS_BLOCK_IMAGES = 1024


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Random changes of the training images; all off by default in `conf/train.yaml`.

    Attributes:
        crop_padding: pixels of zeros added on each side before a random crop of the old size (He et al.,
            arXiv:1512.03385, section 4.2: 4); 0 is off.
        flip: mirror left and right with probability 1/2; "alternate" = each image at random in the first
            epoch, and from then on whenever it was not in the epoch before (Jordan, arXiv:2404.00498).
        cutout: side in pixels of a square, centred on a random pixel and clipped at the border, that is
            filled with the mean (DeVries & Taylor, arXiv:1708.04552); 0 is off.
    """

    crop_padding: int
    flip: bool | Literal["alternate"]
    cutout: int

    def check_fits(self, height: int, width: int) -> None:
        """Raise UserError if a crop can be outside the images, or the cutout is larger than they are."""
        side = min(height, width)
        for key, most in (("crop_padding", side - 1), ("cutout", side)):
            if getattr(self, key) > most:
                raise UserError(
                    f"data.augment.{key}={getattr(self, key)} leaves nothing of images of {height}x{width}; "
                    f"set data.augment.{key}={most // 4}, or 0 for none."
                )

    @property
    def active(self) -> bool:
        """Whether anything is random."""
        return self.crop_padding > 0 or bool(self.flip) or self.cutout > 0

    def draw(self, rng: np.random.Philox, n: int, height: int, width: int) -> np.ndarray:
        """Return the draws for `n` images, int16 `[n, 5]`.

        Columns: crop row and crop column in 0 .. 2 crop_padding, flip in 0 .. 1, row and column of the
        cutout's centre in the image. Each image takes one 64-bit word of `rng`, and each column is a digit of
        it in mixed radix, so a column's bias is below 2**-40. A crop with row r starts r - crop_padding
        pixels below the image's top edge; columns likewise from its left edge. An alternating flip depends on
        the image and the epoch, so `BatchPlan` writes it over the one drawn here.
        """
        draws = np.zeros((n, 5), dtype=np.int16)
        if not self.active:
            return draws
        word = rng.random_raw(n)
        # The flip takes its bit even if it is off, so that switching it does not change the crops.
        for column, radix in (
            (FLIP, 2),
            (ROW, 2 * self.crop_padding + 1),
            (COLUMN, 2 * self.crop_padding + 1),
        ):
            word, draws[:, column] = _digit(word, radix)
        if not self.flip:
            draws[:, FLIP] = 0
        if self.cutout:
            word, draws[:, CUTOUT_ROW] = _digit(word, height)
            word, draws[:, CUTOUT_COLUMN] = _digit(word, width)
        return draws


def _digit(word: np.ndarray, radix: int) -> tuple[np.ndarray, np.ndarray]:
    """Return quotient and remainder; numpy has no vector code for divmod."""
    quotient = word // np.uint64(radix)
    return quotient, word - quotient * np.uint64(radix)


class Preprocess:
    """Turns uint8 images into the network's float32 batch: crop, flip, `(x / 255 - mean) / std`, cutout.

    The image is padded with zeros before normalization, as by torchvision's RandomCrop on a PIL image. Works
    on the images' device without synchronizing with it.

    Args:
        augment: None for evaluation.
        mean: of each channel, in [0, 1].
        std: of each channel, in [0, 1]; a channel of std 0 is only centred.
        channels_last: memory format of the result.
    """

    def __init__(
        self, augment: Augment | None, mean: Sequence[float], std: Sequence[float], channels_last: bool
    ) -> None:
        self.augment = augment if augment is not None and augment.active else None
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        self.channels_last = channels_last
        self._affine: tuple[Tensor, Tensor] | None = None

    def __call__(self, images: Tensor, draws: Tensor | None = None) -> Tensor:
        """Return float32 `[B, C, H, W]` for uint8 `[B, C, H, W]` and `draws` `[B, 5]` of `Augment.draw`.

        Images of floats are used as they come.

        Raises:
            UserError: augmentation is on and the images are floats.
            ValueError: augmentation is on and `draws` is None.
        """
        if images.is_floating_point():
            return self._as_they_come(images)
        if self.augment is None:
            return self._normalize(images)
        if draws is None:
            raise ValueError("augmentation is on: Preprocess needs a draw for each image")
        draws = draws.to(images.device, torch.int64, non_blocking=True)
        batch = self._normalize(_crop_and_flip(images, draws, self.augment))
        if self.augment.cutout:
            _cut_out(batch, draws, self.augment.cutout)
        return batch

    def _as_they_come(self, images: Tensor) -> Tensor:
        if self.augment is not None:
            raise UserError(
                "data.augment changes uint8 images, but these are floats; set data.augment.flip=false "
                "data.augment.crop_padding=0 data.augment.cutout=0"
            )
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return images.to(torch.float32, memory_format=layout)

    def _normalize(self, images: Tensor) -> Tensor:
        if (
            self._affine is None
            or self._affine[0].shape[1:] != images.shape[1:]
            or self._affine[0].device != images.device
        ):
            self._affine = self._scale_and_shift(images)
        scale, shift = self._affine
        return self._to_float(images).mul_(scale).add_(shift)

    def _to_float(self, images: Tensor) -> Tensor:
        n, channels, height, width = images.shape
        if not self.channels_last or channels == 1:
            return images.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
        batch = torch.empty((n, height, width, channels), device=images.device)
        for channel in range(channels):  # four times as fast on a CPU as one permuting copy
            batch[..., channel] = images[:, channel]
        return batch.permute(0, 3, 1, 2)

    def _scale_and_shift(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return both for every pixel: with one number per channel, channels_last would not be vectorized."""
        pair = [values.to(images.device) for values in scale_and_shift(self.mean, self.std)]
        shape = (1, *images.shape[1:])
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        full = [t.view(1, -1, 1, 1).expand(shape).contiguous(memory_format=layout) for t in pair]
        return full[0], full[1]


def scale_and_shift(mean: Sequence[float], std: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Return float32 [C] a and b so that a x + b normalizes uint8 values x: (x / 255 - mean) / std.

    A channel of std 0 is only centred.
    """
    spread = [value if value > 0 else 1.0 for value in std]
    scale = torch.tensor([1 / (255 * s) for s in spread])
    return scale, torch.tensor([-m / s for m, s in zip(mean, spread, strict=True)])


@dataclass(frozen=True)
class LowResolution:
    """Progressive resizing: training images are reduced to `side` pixels in steps below `until_step`.

    The shorter side becomes `side`, by an antialiased bilinear filter after augmentation. Evaluation has the
    full size. Source: Tan and Le, arXiv:2104.00298, section 4, and the fast.ai entry of DAWNBench (2018).
    """

    side: int
    until_step: int

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the reduced images."""
        shorter = min(height, width)
        return round(height * self.side / shorter), round(width * self.side / shorter)

    def __call__(self, images: Tensor, step: int) -> Tensor:
        """Return float images `[B, C, H, W]` as `step` of the run sees them."""
        if step >= self.until_step:
            return images
        height, width = images.shape[2:]
        size = self.size(height, width)
        return nn.functional.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)


def _crop_and_flip(images: Tensor, draws: Tensor, augment: Augment) -> Tensor:
    """Return each image's window of its padded self, uint8 `[B, C, H, W]`, by one gather of pixel rows."""
    n, channels, height, width = images.shape
    pad = augment.crop_padding
    padded = images.contiguous()
    if pad:
        padded = images.new_zeros((n, channels, height + 2 * pad, width + 2 * pad))
        padded[:, :, pad:-pad, pad:-pad] = images
    rows, columns = draws[:, ROW], draws[:, COLUMN]
    if not pad and not augment.flip:
        return images
    number = torch.arange(n, device=images.device)
    if augment.flip:
        # The window of a mirrored image is at the mirrored column of the mirrored padded image.
        padded = torch.cat((padded, padded.flip(-1)))
        flipped = draws[:, FLIP]
        number = number + n * flipped
        columns = columns + flipped * (2 * pad - 2 * columns)
    stride = width + 2 * pad
    plane = stride * (height + 2 * pad)
    first = number * (channels * plane) + rows * stride + columns
    inside = torch.arange(channels, device=images.device)[:, None] * plane
    inside = inside + torch.arange(height, device=images.device) * stride
    windows = padded.as_strided((padded.numel() - width + 1, width), (1, 1))
    return windows.index_select(0, (first[:, None] + inside.view(1, -1)).view(-1)).view(images.shape)


def _cut_out(batch: Tensor, draws: Tensor, side: int) -> None:
    """Fill each image's square with 0, the mean after normalization, in place."""
    height, width = batch.shape[2:]
    top = draws[:, CUTOUT_ROW, None] - side // 2
    left = draws[:, CUTOUT_COLUMN, None] - side // 2
    row = torch.arange(height, device=batch.device)
    column = torch.arange(width, device=batch.device)
    in_rows = (row >= top) & (row < top + side)
    in_columns = (column >= left) & (column < left + side)
    batch.masked_fill_((in_rows[:, :, None] & in_columns[:, None, :])[:, None], 0.0)


def channel_statistics(images: Tensor | MappedImages) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and population standard deviation of each channel of uint8 `[N, C, H, W]`, in [0, 1].

    Exact up to the last rounding, by a histogram.

    Raises:
        ZeroDivisionError: no images.
    """
    if isinstance(images, MappedImages):
        mean, std = images.remembered("mean_and_std", lambda: _statistics_of_mapped(images))
        return tuple(mean), tuple(std)
    return statistics_of(images.split(_STATISTICS_BLOCK_IMAGES))


def _statistics_of_mapped(images: MappedImages) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return statistics_of(images.split(_STATISTICS_BLOCK_IMAGES))


def statistics_of(blocks: Iterable[Tensor]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return `channel_statistics` of blocks of images; each block may have images of another size."""
    histograms: list[np.ndarray] = []
    for block in blocks:
        histograms = histograms or [np.zeros(256, dtype=np.int64) for _ in range(block.shape[1])]
        for channel, histogram in enumerate(histograms):
            histogram += torch.bincount(block[:, channel].reshape(-1), minlength=256).cpu().numpy()
    mean, std = [], []
    values = np.arange(256)
    for histogram in histograms:
        # Python's integers, because a count times a sum of squares can exceed 2**63.
        count, total, squares = (int(histogram @ values**power) for power in (0, 1, 2))
        mean.append(total / (255 * count))
        std.append(math.sqrt(count * squares - total * total) / (255 * count))
    return tuple(mean), tuple(std)


def normalization(
    normalize: Literal["channel", "unit"], images: Tensor | MappedImages
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std per channel: those of the training `images` for `channel`, 0 and 1 for `unit`."""
    if normalize == "unit":
        return (0.0,) * images.shape[1], (1.0,) * images.shape[1]
    return channel_statistics(images)
