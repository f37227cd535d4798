"""ImageData and its fingerprint."""

from __future__ import annotations

import pytest
import torch

from tempo.data.images import ImageData


def sample(n: int = 6) -> ImageData:
    images = torch.randint(
        0, 256, (n, 3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    return ImageData(images, torch.arange(n) % 2, ("a", "b"), "sample")


def test_take_copies_the_named_images() -> None:
    whole = sample()
    part = whole.take([4, 1])
    assert torch.equal(part.images, whole.images[[4, 1]])
    assert part.labels.tolist() == [0, 1]
    part.images.zero_()
    assert whole.images.any()
    assert (len(part), part.shape) == (2, (3, 4, 5))


def test_the_fingerprint_sees_every_change_and_no_layout() -> None:
    whole = sample()
    prints = {whole.sha256()}
    pixel, label = whole.images.clone(), whole.labels.clone()
    pixel[5, 2, 3, 4] ^= 1
    label[3] = 0
    prints |= {
        ImageData(pixel, whole.labels, whole.classes, "sample").sha256(),
        ImageData(whole.images, label, whole.classes, "sample").sha256(),
        ImageData(whole.images, whole.labels, ("a", "c"), "sample").sha256(),
        ImageData(whole.images.reshape(6, 3, 5, 4), whole.labels, whole.classes, "sample").sha256(),
    }
    assert len(prints) == 5
    last = whole.images.contiguous(memory_format=torch.channels_last)
    assert ImageData(last, whole.labels, whole.classes, "other name").sha256() == whole.sha256()


def test_the_fingerprint_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sample(50).sha256()
    monkeypatch.setattr("tempo.data.images._BLOCK_BYTES", 100)
    assert sample(50).sha256() == whole


def test_wrong_types_and_shapes_are_refused() -> None:
    good = sample()
    with pytest.raises(ValueError, match="uint8"):
        ImageData(good.images.float(), good.labels, good.classes, "bad")
    with pytest.raises(ValueError, match="int64"):
        ImageData(good.images, good.labels[:-1], good.classes, "bad")
