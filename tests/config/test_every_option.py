"""Every option of conf/, found by listing the folder: composes, builds, and takes an optimizer step.

Experiments are in tests/experiment/test_scale.py, each whole and in its smoke form.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

from tempo.config.json_schema import is_own
from tempo.run.build_data import build_data, build_plan
from tempo.run.build_module import build_task, connect_data
from tempo.run.build_trainer import build_loggers, build_trainer
from tempo.task.classifier import Classifier
from tempo.trainer.process_settings import quiet
from tests.jobs import CONF, checked_job, options, run_job

SYNTHETIC = [
    "data=synthetic",
    "data.train_images=8",
    "data.test_images=4",
    "data.val_size=2",
    "data.total_batch_size=2",
]
# Images large enough for the network, the network small enough for a test.
MODELS: dict[str, list[str]] = {
    "torchvision": ["model.name=resnet18"],
    "timm": ["model.name=resnet18"],
    "wrn28_10": ["model.widen_factor=1", "data.image_size=8"],
    "wrn32_4": ["model.widths=[8,16,32]", "data.image_size=8"],
    "densenet40": ["data.image_size=8"],
    "resnet110": ["data.image_size=8"],
}
OPTIMIZERS = {"bfgs": ["model.hidden=[8]"]}
NEEDS = {
    "timm": "timm",
    "wandb": "wandb",
    "mlflow": "mlflow",
    "lion": "lion_pytorch",
    "schedule_free": "schedulefree",
    "huggingface": "datasets",
}
GROUPS = sorted(path.name for path in CONF.iterdir() if path.is_dir() and options(path.name))
CASES = [(group, option) for group in GROUPS for option in options(group)]


@pytest.fixture(autouse=True)
def restore_torch() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)


def overrides_of(group: str, option: str, folder: Path, request: pytest.FixtureRequest) -> list[str]:
    """The command line that gives the option a quick first step; skips what this machine cannot do."""
    package = NEEDS.get(option)
    if package and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    given = [f"{group}={option}"]
    if option == "frugal":
        half = [*SYNTHETIC, "data.image_size=8", "model=resnet20", "trainer.max_steps=1", "trainer=cpu"]
        run_job(folder, half)
        return [*SYNTHETIC, *given, f"model.run={folder}", "data.image_size=16"]
    if group == "model":
        return [*SYNTHETIC, *given, *MODELS.get(option, [])]
    if group == "trainer":
        if option in ("gpu", "ddp") and not torch.cuda.is_available():
            pytest.skip(f"trainer={option} needs a GPU")
        # One process has nothing to split: the rest of the option; tests/run/test_sharded.py takes it whole.
        alone = ["trainer.shard=false", "trainer.accelerator=cpu"] if option == "fsdp2" else []
        return [*given, "model=mlp", "trainer.devices=1", *alone]
    if group == "data":
        return [*given, "model=cnn3", *_data(option, folder, request)]
    return [*given, "model=mlp", *(OPTIMIZERS.get(option, []) if group == "optimizer" else [])]


def _data(option: str, folder: Path, request: pytest.FixtureRequest) -> list[str]:
    if option == "synthetic":
        return SYNTHETIC[1:]
    text = (CONF / "data" / f"{option}.yaml").read_text(encoding="utf-8")
    small = ["data.total_batch_size=2", "data.test_size=4", "data.val_size=2"]
    own_files = [f"data.root={folder}", f"data.cache={folder}-cache", *small]
    if option == "huggingface":
        datasets = pytest.importorskip("datasets")
        images = [Image.new("RGB", (8, 8), (number, 0, 0)) for number in range(16)]
        kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(2)}
        rows = {"image": images, "label": [number % 2 for number in range(16)]}
        datasets.Dataset.from_dict(rows, datasets.Features(kinds)).save_to_disk(folder)
        return own_files
    if "_target_: tempo.data.folder.folder" in text or option == "table":
        generator = np.random.default_rng(0)
        for name in ("cat", "dog"):
            (folder / name).mkdir(parents=True)
            for number in range(8):
                pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / name / f"{number}.png")
        lines = [f"{name}/{number}.png,{name}" for name in ("cat", "dog") for number in range(8)]
        (folder / "train.csv").write_text("\n".join(["id,label", *lines]), encoding="utf-8")
        return own_files
    if option == "digits":
        return []
    real_data: Path = request.getfixturevalue("real_data")
    folders = {
        "mnist": "MNIST/raw",
        "fashion_mnist": "FashionMNIST/raw",
        "kmnist": "KMNIST/raw",
        "emnist": "EMNIST/raw",
        "svhn": "train_32x32.mat",
        "cifar10": "cifar-10-batches-py",
        "cifar100": "cifar-100-python",
    }
    if not (real_data / folders[option]).exists():
        pytest.skip(f"{real_data} has no {folders[option]}")
    return [f"data.root={real_data}", "data.download=false", "data.train_size=256", "data.val_size=100"]


@pytest.mark.parametrize(("group", "option"), CASES, ids=["/".join(case) for case in CASES])
def test_composes_builds_and_takes_a_step(
    group: str, option: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    overrides = overrides_of(group, option, tmp_path / "images", request)
    one_step = ["trainer.epochs=1", "trainer.limit_train_steps=1"]  # whatever the length of the schedule
    config, choices = checked_job([*overrides, *one_step, "trainer.threads=1"])
    assert choices[group] == option
    quiet()
    data = build_data(config)
    plan = build_plan(config, data, 1, 0)
    task = build_task(config, data, plan)
    connect_data(config, data, task)
    module = task.module
    assert isinstance(module, Classifier)
    before = {name: value.clone() for name, value in module.network.named_parameters()}

    trainer = build_trainer(config, tmp_path, plan, [], build_loggers(config, tmp_path, 0, rank=0), module)
    assert isinstance(trainer, pl.Trainer)
    trainer.fit(module, data.train_dataloader())

    assert trainer.global_step == 1
    _, losses, _ = module.progress.window.flush()
    assert len(losses) == 1
    assert math.isfinite(losses[0])
    moved = [
        name for name, value in module.network.named_parameters() if not torch.equal(value, before[name])
    ]
    assert moved, "no parameter has moved"


def test_every_group_has_an_option() -> None:
    assert {"data", "model", "optimizer", "scheduler", "trainer", "logger", "debug"} <= set(GROUPS)


def test_every_yaml_says_what_it_is() -> None:
    for path in filter(is_own, CONF.rglob("*.yaml")):
        first, second, *_ = [*path.read_text(encoding="utf-8").splitlines(), ""]
        comment = second if first.startswith("# @package") else first
        assert comment.startswith("# "), f"{path.relative_to(CONF)} begins without a line of explanation"
