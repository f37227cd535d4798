"""Augmentation and normalisation against torchvision's transforms, one image at a time."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import functional as F

from tempo.data.augment import Augment, Preprocess, channel_statistics, normalization

MEAN, STD = (0.3, 0.5, 0.6), (0.2, 0.25, 0.3)


def pictures(n: int, channels: int = 3, height: int = 6, width: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.randint(0, 256, (n, channels, height, width), dtype=torch.uint8, generator=generator)


def draws_of(augment: Augment, n: int, height: int = 6, width: int = 9) -> Tensor:
    return torch.from_numpy(augment.draw(np.random.Philox(5), n, height, width))


def reference(image: Tensor, draw: list[int], augment: Augment, mean: tuple, std: tuple) -> Tensor:
    """What torchvision's Pad, crop, hflip, ToTensor and Normalize make of one image; then the square."""
    row, column, flip, centre_row, centre_column = draw
    height, width = image.shape[1:]
    image = F.crop(F.pad(image, [augment.crop_padding]), row, column, height, width)
    image = F.hflip(image) if flip else image
    out = F.normalize(image.float() / 255, list(mean), list(std))
    top, left = centre_row - augment.cutout // 2, centre_column - augment.cutout // 2
    for i, j in itertools.product(range(height), range(width)):
        if top <= i < top + augment.cutout and left <= j < left + augment.cutout:
            out[:, i, j] = 0
    return out


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("padding", "flip", "cutout"),
    [(0, False, 0), (4, False, 0), (0, True, 0), (4, True, 0), (2, True, 3), (0, False, 4), (1, True, 20)],
)
def test_a_batch_is_what_torchvision_makes_of_each_image(
    padding: int, flip: bool, cutout: int, channels: int, channels_last: bool
) -> None:
    augment = Augment(crop_padding=padding, flip=flip, cutout=cutout)
    images, draws = pictures(40, channels), draws_of(augment, 40)
    before = images.clone()
    batch = Preprocess(augment, MEAN[:channels], STD[:channels], channels_last)(images, draws)
    expected = [
        reference(image, draw, augment, MEAN[:channels], STD[:channels])
        for image, draw in zip(images, draws.tolist(), strict=True)
    ]
    torch.testing.assert_close(batch, torch.stack(expected), rtol=0, atol=2e-6)
    assert batch.dtype == torch.float32
    assert batch.is_contiguous(
        memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )
    assert torch.equal(images, before)


def test_evaluation_only_normalises() -> None:
    images = pictures(5)
    batch = Preprocess(None, MEAN, STD, False)(images)
    torch.testing.assert_close(batch, F.normalize(images.float() / 255, list(MEAN), list(STD)))


def test_sizes_may_change_between_calls() -> None:
    preprocess = Preprocess(None, MEAN, STD, True)
    for height in (6, 3, 6):
        assert preprocess(pictures(4, height=height)).shape == (4, 3, height, 9)


def test_crops_and_flips_are_uniform_and_independent() -> None:
    """Chi-square over the 2 x 9 x 9 cells; the bound is the 1 - 1e-6 quantile for 161 degrees of freedom."""
    n = 324_000
    draws = draws_of(Augment(crop_padding=4, flip=True, cutout=0), n).long()
    assert draws[:, :2].min() == 0
    assert draws[:, :2].max() == 8
    cells = draws[:, 2] * 81 + draws[:, 0] * 9 + draws[:, 1]
    # A neighbour's draw tells nothing either.
    for observed, expected in (
        (torch.bincount(cells, minlength=162), n / 162),
        (torch.bincount(draws[:-1, 0] * 9 + draws[1:, 1], minlength=81), (n - 1) / 81),
    ):
        assert float(((observed - expected) ** 2 / expected).sum()) < 261


def test_cutout_centres_reach_every_pixel() -> None:
    draws = draws_of(Augment(crop_padding=0, flip=False, cutout=2), 5000)
    assert {tuple(pair) for pair in draws[:, 3:].tolist()} == set(itertools.product(range(6), range(9)))
    assert not draws[:, :3].any()


def test_switching_the_flip_leaves_the_crops() -> None:
    with_flip = draws_of(Augment(crop_padding=4, flip=True, cutout=0), 100)
    without = draws_of(Augment(crop_padding=4, flip=False, cutout=0), 100)
    assert torch.equal(with_flip[:, :2], without[:, :2])
    assert with_flip[:, 2].any()
    assert not without[:, 2].any()


def test_missing_draws_are_an_error() -> None:
    preprocess = Preprocess(Augment(crop_padding=4, flip=True, cutout=0), MEAN, STD, False)
    with pytest.raises(ValueError, match="a draw for each image"):
        preprocess(pictures(3))


def test_statistics_are_exact() -> None:
    images = pictures(2500, height=3, width=2)
    mean, std = channel_statistics(images)
    for channel in range(3):
        pixels = [int(value) for value in images[:, channel].flatten()]
        centre = sum(pixels) / len(pixels)
        variance = math.fsum((pixel - centre) ** 2 for pixel in pixels) / len(pixels)
        assert mean[channel] == pytest.approx(centre / 255, rel=1e-14)
        assert std[channel] == pytest.approx(math.sqrt(variance) / 255, rel=1e-12)


def test_a_constant_channel_is_centred_and_finite() -> None:
    images = pictures(10)
    images[:, 1] = 77
    mean, std = normalization("channel", images)
    assert std[1] == 0
    batch = Preprocess(None, mean, std, False)(images)
    assert batch.isfinite().all()
    assert batch[:, 1].abs().max() < 1e-6
    assert batch[:, 0].std(correction=0) == pytest.approx(1, abs=1e-5)


def test_unit_is_plain_scaling_to_one() -> None:
    images = pictures(10)
    torch.testing.assert_close(Preprocess(None, *normalization("unit", images), False)(images), images / 255)
