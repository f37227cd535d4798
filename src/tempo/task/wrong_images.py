"""Keep the test images that a classifier got wrong while it was most certain."""

from __future__ import annotations

import base64
import io
import math

import torch
from PIL import Image
from torch import Tensor

from tempo.record.test_images import WrongImage

LONGEST_SIDE = 64
"""Pixels; larger images are kept smaller."""


class WrongImages:
    """The `most` wrong images with the most probable predictions, over all batches of a process."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._kept: list[tuple[float, int, int, Tensor]] = []

    def add(self, images: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Look through a batch of images `[N, C, H, W]`; only one or three channels can be shown."""
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            return
        probabilities, predicted = logits.softmax(1).max(1)
        certainty = torch.where(predicted != labels, probabilities, -1.0)
        values, places = certainty.topk(min(self.most, len(certainty)))
        floor = self._kept[-1][0] if len(self._kept) == self.most else 0.0
        for value, at in zip(values.tolist(), places.tolist(), strict=True):
            if math.isfinite(value) and value > floor:
                image = images[at].detach().to("cpu", copy=True)
                self._kept.append((value, int(labels[at]), int(predicted[at]), image))
        self._kept = sorted(self._kept, key=lambda kept: -kept[0])[: self.most]

    def recorded(self) -> list[WrongImage]:
        """Return the images as a record has them, the most certain first."""
        return [
            WrongImage(true, predicted, round(probability, 4), png_of(image))
            for probability, true, predicted, image in self._kept
        ]


def png_of(image: Tensor) -> str:
    """Return an image `[C, H, W]` as PNG in base64; values that are not bytes are stretched to 0 to 255."""
    if image.dtype != torch.uint8:
        low, high = image.min(), image.max()
        image = (255 * (image - low) / (high - low).clamp(min=1e-12)).round().to(torch.uint8)
    pixels = image.permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    content = io.BytesIO()
    picture.save(content, "PNG", optimize=True)
    return base64.b64encode(content.getvalue()).decode()
