"""Digits, synthetic images, and the values in conf/data."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.datasets import load_digits

from tempo.data.digits import digits
from tempo.data.synthetic import synthetic
from tempo.errors import UserError
from tempo.paths import ROOT

# data=own has no source: its data are the loaders of a LightningModule.
OPTIONS = sorted(path for path in (ROOT / "conf" / "data").glob("*.yaml") if path.stem != "own")
# Keys that every data set has; the source is not called with them.
COMMON = {
    "total_batch_size", "eval_batch_size", "val_size", "train_size", "split_seed", "normalize", "augment",
    "train_images",
}  # fmt: skip


def test_digits_are_scikit_learns_own() -> None:
    train, test = digits()
    official = load_digits()
    is_test = np.arange(1797) % 5 == 4
    for part, chosen in ((train, ~is_test), (test, is_test)):
        assert part.labels.tolist() == official.target[chosen].tolist()
        expected = torch.from_numpy(official.images[chosen]) * 255 / 16
        assert (part.images[:, 0].double() - expected).abs().max() <= 0.5
    assert (len(train), len(test), train.shape) == (1438, 359, (1, 8, 8))
    assert int(train.images.max()) == 255
    assert train.classes == tuple("0123456789")


def sizes(**changes: object) -> dict:
    return {
        "image_size": 6, "channels": 2, "classes": 5, "train_images": 3000, "test_images": 500,
        "seed": 0, "learnable": False,
    } | changes  # fmt: skip


def test_synthetic_images_are_uniform_noise() -> None:
    train, test = synthetic(**sizes())
    assert train.images.shape == (3000, 2, 6, 6)
    assert test.images.shape == (500, 2, 6, 6)
    counts = torch.bincount(train.images.flatten(), minlength=256).double()
    expected = train.images.numel() / 256
    # 1 - 1e-6 quantile of chi-square with 255 degrees of freedom.
    assert float(((counts - expected) ** 2 / expected).sum()) < 375
    assert set(train.labels.tolist()) == set(test.labels.tolist()) == set(range(5))
    assert not torch.equal(train.images[:500], test.images)


def test_synthetic_images_follow_their_seed() -> None:
    prints = [synthetic(**sizes(seed=seed))[0].sha256() for seed in (0, 0, 1, 2)]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


@pytest.mark.parametrize("learnable", [False, True])
def test_only_learnable_images_tell_their_class(learnable: bool) -> None:
    """Nearest class mean of the training images, on the test images."""
    train, test = synthetic(**sizes(learnable=learnable))
    flat = train.images.flatten(1).float()
    means = torch.stack([flat[train.labels == label].mean(0) for label in range(5)])
    found = torch.cdist(test.images.flatten(1).float(), means).argmin(1)
    accuracy = float((found == test.labels).float().mean())
    assert accuracy > 0.95 if learnable else accuracy < 0.3


@pytest.mark.parametrize("key", ["image_size", "channels", "classes", "train_images", "test_images"])
def test_synthetic_sizes_start_at_one(key: str) -> None:
    with pytest.raises(UserError, match=f"data.{key}=0"):
        synthetic(**sizes(**{key: 0}))


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: path.stem)
def test_every_options_keys_are_its_sources_parameters(path: Path) -> None:
    values = yaml.safe_load(path.read_text())
    module, _, name = values.pop("_target_").rpartition(".")
    source = getattr(import_module(module), name)
    assert source.__module__ == module
    parameters = inspect.signature(source).parameters
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters.values())
    assert set(parameters) == {key for key in values if key not in COMMON or key in parameters}


def test_the_digits_yaml_knows_their_number() -> None:
    values = yaml.safe_load((ROOT / "conf" / "data" / "digits.yaml").read_text())
    assert values["train_images"] == len(digits()[0])
