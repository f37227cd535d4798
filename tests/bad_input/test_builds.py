"""What only shows when the run is built: networks, devices, data and memory that are not there."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import torch

from tests.bad_input.conftest import SMALL, Refused
from tests.bad_input.warm import Warm

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
SYNTHETIC = "data=synthetic model=mlp data.total_batch_size=8 data.test_images=8"

# (arguments of src/train.py, what the line must name)
RUNS: list[tuple[str, list[str]]] = [
    (
        "model=mlp model.hidden=[100000000000]",
        ["not enough memory for the weights", "model=mlp model.hidden=[64]"],
    ),
    ("model.depth=2000000", ["must be at most 10000 layers; set model.depth=9998 or less"]),
    ("model=cnn3 model.widths=[0,0,0]", ["model.widths=[32,64,128]"]),
    ("model=torchvision model.name=nothing", ["model.name=resnet50"]),
    ("model=torchvision model.name=vgg16 data=synthetic data.image_size=8", ["8x8", "data.image_size"]),
    ("model=frugal model.run=/nowhere", ["/nowhere has no run.json"]),
    ("model._target_=torch.nn.ReLU", ["model: ReLU", "model=<option of conf/model>"]),
    ("optimizer._target_=torch.nn.Linear", ["is not an optimizer", "optimizer._target_=torch.optim.SGD"]),
    ("optimizer._target_=nothing.Nothing", ["cannot be imported"]),
    ("+optimizer.foo=1 model=mlp", ["optimizer.foo is not a setting of SGD", "~optimizer.foo"]),
    ("trainer.precision=bf16-true ema.decay=0.9", ["trainer.precision=bf16-mixed"]),
    ("trainer.threads=100000", ["trainer.threads=100000 must be at most 1024"]),
    (
        "data.augment.crop_padding=8 model=mlp",
        ["data.augment.crop_padding=8 leaves nothing of images of 8x8"],
    ),
    ("data.augment.cutout=9 model=mlp", ["data.augment.cutout=9 leaves nothing of images of 8x8"]),
    (f"{SYNTHETIC} data.train_images=100 data.classes=1", ["has only the class '0'", "conf/data"]),
    (f"{SYNTHETIC} data.train_images=8", ["data.total_batch_size=7 or less"]),
    (
        f"{SYNTHETIC} data.train_images=100 data.val_size=0.001",
        ["0.001 of 100 images is none", "data.val_size=1"],
    ),
    (f"{SYNTHETIC} data.image_size=1000000", ["not enough memory for the images", "data.image_size=32"]),
    ("data=folder data.root=/nowhere", ["data.root=/nowhere is not a folder"]),
    ("data=cifar10 data.root=/dev/null data.download=false", ["data=digits (no network)"]),
]
NEEDS_GPU: list[tuple[str, list[str]]] = [
    ("trainer=gpu", ["this machine has 0; use trainer=cpu"]),
    ("trainer=ddp trainer.devices=2", ["trainer=ddp_cpu for several processes"]),
    ("trainer.accelerator=mps trainer.devices=8", ["this machine has 0"]),
    ("trainer.precision=16-mixed", ["trainer.precision=bf16-mixed"]),
    ("trainer.backend=nccl trainer.devices=2", ["trainer.backend=gloo"]),
]


@pytest.mark.parametrize(("arguments", "words"), RUNS, ids=[case[0][-60:] for case in RUNS])
def test_a_run_that_cannot_be_built(
    arguments: str, words: list[str], heavy: Warm, refused: Refused, tmp_path: Path
) -> None:
    line = refused(heavy, "train.py", f"hydra.run.dir={tmp_path / 'a' / 'run'}", *shlex.split(arguments))
    for word in words:
        assert word in line


@without_gpu
@pytest.mark.parametrize(("arguments", "words"), NEEDS_GPU, ids=[case[0] for case in NEEDS_GPU])
def test_a_device_that_is_not_there(
    arguments: str, words: list[str], heavy: Warm, refused: Refused, tmp_path: Path
) -> None:
    test_a_run_that_cannot_be_built(arguments, words, heavy, refused, tmp_path)


def test_a_study_that_cannot_be_afforded(heavy: Warm, refused: Refused, tmp_path: Path) -> None:
    given = ["model=mlp", "tune.budget_epochs=1", f"hydra.run.dir={tmp_path / 'a' / 'tune'}"]
    assert "at least tune.budget_epochs=" in refused(heavy, "tune.py", *given)
    given = ["model=mlp", "data=folder", "data.root=/nowhere", f"hydra.run.dir={tmp_path / 'a' / 'tune'}"]
    assert "data.root=/nowhere is not a folder" in refused(heavy, "tune.py", *given)


@pytest.mark.parametrize("name", ["OwnModule", "own_module"])
def test_a_lightning_module_that_trains_nothing(
    name: str, heavy: Warm, refused: Refused, tmp_path: Path
) -> None:
    target = f"model._target_=tests.bad_input.own_modules.{name}"
    given = [*SMALL, "~model.hidden", target, f"hydra.run.dir={tmp_path / 'a' / 'run'}"]
    assert "OwnModule is a LightningModule without training_step" in refused(heavy, "train.py", *given)


@pytest.mark.parametrize("name", ["OwnData", "own_data"])
def test_a_lightning_data_module_without_loaders(
    name: str, heavy: Warm, refused: Refused, tmp_path: Path
) -> None:
    target = f"data._target_=tests.bad_input.own_modules.{name}"
    line = refused(heavy, "train.py", *SMALL, target, f"hydra.run.dir={tmp_path / 'a' / 'run'}")
    assert "OwnData has no train_dataloader" in line


def test_the_remedy_for_a_lightning_module_trains(heavy: Warm, tmp_path: Path) -> None:
    given = [*SMALL, "model._target_=tempo.model.mlp.MLP", f"hydra.run.dir={tmp_path / 'run'}"]
    done = heavy.call("train.py", *given, folder=tmp_path)
    assert done.code == 0, done.err
