"""data.transform and mixed batches: drawn from their place in the run, and refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tempo.data.transforms import MixImages
from tempo.errors import UserError
from tempo.run.evaluate import evaluate
from tests.conftest import Train

V2 = "torchvision.transforms.v2"
CROPS = (
    f"data.transform=[{{_target_:{V2}.RandomResizedCrop,size:8}},{{_target_:{V2}.RandAugment}}]",
    f"data.eval_transform=[{{_target_:{V2}.Resize,size:[8,8]}}]",
)
STEPS = ("trainer.max_steps=24", "data.total_batch_size=32", "trainer.log_every_n_steps=7")
OUTPUTS: dict[str, Any] = {"text": "not an image"}


def as_array(image: torch.Tensor) -> Any:
    """A transform that gives no tensor."""
    return image.numpy()


class AsArray:
    """The same as a class."""

    def __call__(self, image: torch.Tensor) -> Any:
        return as_array(image)


class Same:
    """A transform that changes nothing."""

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return image


def test_a_transform_that_changes_nothing_changes_no_bit(train: Train) -> None:
    fixed = (*STEPS, "data.augment.flip=true", "trainer.accumulate=2")
    wanted = train(*fixed, folder="memory").record
    same = "data.transform=[{_target_:tests.run.test_transforms.Same}]"
    found = train(*fixed, same, folder="items").record
    assert found.weights_sha256 == wanted.weights_sha256
    assert found.metrics == wanted.metrics
    differs = {fact for fact in wanted.data if found.data[fact] != wanted.data[fact]}
    assert differs == set()


def test_transforms_draw_the_same_in_workers_and_after_a_stop(train: Train, tmp_path: Path) -> None:
    whole = train(*STEPS, *CROPS, folder="whole")
    assert whole.record.weights_sha256 != train(*STEPS, folder="plain").record.weights_sha256
    assert train(*STEPS, *CROPS, "data.num_workers=2", folder="two").record.weights_sha256 == (
        whole.record.weights_sha256
    )
    assert evaluate(whole.folder).against_record == "the record's numbers"


@pytest.mark.parametrize("mixing", [("mixup", 0.2), ("cutmix", 1.0), ("both", 1.0)])
def test_mixed_batches_are_shares_of_two_images(mixing: tuple[str, float]) -> None:
    kind, alpha = mixing
    images = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 1, 8, 8).contiguous()
    labels = torch.arange(6)
    mix = MixImages(alpha if kind != "cutmix" else None, alpha if kind != "mixup" else None, 6)
    for seed in range(8):
        mixed, shares = mix(images, labels, seed)
        assert shares.sum(1) == pytest.approx(torch.ones(6))
        # The image of a class is its number everywhere, so the mean of the pixels follows from the shares.
        assert mixed.mean((1, 2, 3)) == pytest.approx(shares @ torch.arange(6.0), abs=1e-5)
        again = mix(images, labels, seed)
        assert torch.equal(mixed, again[0])
        assert torch.equal(shares, again[1])


def test_mixing_trains_alike_from_memory_and_from_loaders_and_learns(train: Train) -> None:
    job = (*STEPS, "data.mixup=0.2", "data.cutmix=1.0", "trainer.accumulate=2")
    first = train(*job, folder="memory").record
    same = "data.transform=[{_target_:tests.run.test_transforms.Same}]"
    assert train(*job, same, folder="items").record.weights_sha256 == first.weights_sha256
    assert first.weights_sha256 != train(*STEPS, "trainer.accumulate=2", folder="plain").record.weights_sha256
    assert first.metrics["test"]["accuracy"] > 0.3


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("data.transform=[{_target_:torchvision.transforms.v2.RandAugmnt}]", "RandAugmnt"),
        ("data.transform=[{_target_:torchvision.transforms.v2.RandomResizedCrop,sise:8}]", "sise"),
        ("data.transform=[{size:8}]", "data.transform: an entry has no _target_"),
        ("data.transform=[{_target_:builtins.dict}]", "builtins.dict gives a dict, not a transform"),
        (
            "data.transform=[{_target_:tests.run.test_transforms.AsArray}]",
            "data.transform gives a ndarray, not an image [C, H, W]",
        ),
        ("data.eval_transform=[{_target_:tests.run.test_transforms.AsArray}]", "data.eval_transform gives a"),
        ("data.transform=flip", "data.transform='flip' is not"),
        ("data.mixup=0", "data.mixup=0 must be above 0"),
    ],
)
def test_a_transform_of_the_wrong_type_is_one_line(train: Train, override: str, line: str) -> None:
    with pytest.raises(UserError) as refused:
        train(*STEPS, override)
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)
