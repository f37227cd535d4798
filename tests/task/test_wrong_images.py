"""The wrong images that a test keeps, against a search through all of them; and the file that has them."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tempo.errors import UserError
from tempo.record.test_images import TEST_IMAGES_FILE, ClassifiedImages
from tempo.task.wrong_images import WrongImages
from tests.conftest import Train


def pixels(png: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_most_certain_wrong_images_of_all_batches_are_kept(channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (90, channels, 8, 6), generator=generator, dtype=torch.uint8)
    logits = 3 * torch.randn(90, 5, generator=generator)
    labels = torch.randint(0, 5, (90,), generator=generator)
    kept = WrongImages(7)
    for start in range(0, 90, 40):
        part = slice(start, start + 40)
        kept.add(images[part], logits[part], labels[part])
    shares = torch.softmax(logits, 1).numpy()
    best = shares.argmax(1)
    wrong = sorted((at for at in range(90) if best[at] != labels[at]), key=lambda at: -shares[at].max())[:7]
    found = kept.recorded()
    assert [(one.true, one.predicted) for one in found] == [(int(labels[at]), int(best[at])) for at in wrong]
    assert [one.probability for one in found] == pytest.approx([shares[at].max() for at in wrong], abs=1e-4)
    expected = images[wrong[0]].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(pixels(found[0].png), expected[:, :, 0] if channels == 1 else expected)


def test_large_images_are_made_smaller_and_others_stretched_or_left_out() -> None:
    kept = WrongImages(2)
    logits, labels = torch.tensor([[0.0, 1.0]]), torch.tensor([0])
    kept.add(torch.linspace(-2, 2, 3 * 200 * 100).view(1, 3, 200, 100), logits, labels)
    kept.add(torch.zeros(1, 5, 8, 8), logits, labels)  # five channels are no picture
    (found,) = kept.recorded()
    assert pixels(found.png).shape == (64, 32, 3)
    assert pixels(found.png).max() > 250


def test_a_run_keeps_as_many_as_it_is_asked_to(train: Train) -> None:
    job = ("model=mlp", "trainer.max_steps=2", "optimizer.lr=1e-6")
    for most in (3, 0):
        trained = train(*job, f"trainer.wrong_images={most}", folder=f"run{most}", pictures=True)
        found = ClassifiedImages.read(trained.folder)
        assert found is not None
        assert len(found.wrong) == most
        assert sum(count for _, _, count in found.confusion) == trained.record.n_evaluated
        right = sum(count for true, predicted, count in found.confusion if true == predicted)
        assert right / trained.record.n_evaluated == trained.record.metrics["test"]["accuracy"]


@pytest.mark.parametrize(
    "change",
    [
        {"classes": 3},
        {"classes": [1]},
        {"confusion": [[0, 1]]},
        {"confusion": [[0, 9, 1]]},
        {"confusion": "x"},
        {"wrong": [{"true": 0}]},
        {"wrong": [{"true": 0, "predicted": 1, "probability": 1.0, "png": "PHNjcmlwdD4="}]},
        {"wrong": 3},
        {"more": 1},
    ],
)
def test_a_file_from_elsewhere_is_checked(tmp_path: Path, change: dict[str, object]) -> None:
    assert ClassifiedImages.read(tmp_path) is None
    good = ClassifiedImages(["a", "b"], [[0, 1, 5]], [])
    good.write(tmp_path)
    assert ClassifiedImages.read(tmp_path) == good
    path = tmp_path / TEST_IMAGES_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match="has other values than tempo writes"):
        ClassifiedImages.read(tmp_path)
