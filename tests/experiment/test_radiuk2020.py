"""The experiments of radiuk2020 against the paper's own tables, typed here a second time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tempo.config.check import check
from tempo.scheduler.range_test import RangeTest
from tests.jobs import CONF, compose_job

FOLDER = CONF / "experiment" / "radiuk2020"


class Row(NamedTuple):
    """A row of Table 1: accuracy in percent, LR and momentum as the paper writes them."""

    data: str
    model: str
    lr: str
    momentum: str
    wd: float
    epochs: int
    mean: float
    sd: float


TABLE_1 = [
    Row("cifar10", "resnet56", "0.1", "0.9", 1e-4, 100, 85.6, 0.7),
    Row("cifar10", "resnet56", "0.1", "0.9", 1e-4, 200, 86.9, 0.6),
    Row("cifar10", "resnet56", "0.1", "0.9", 1e-4, 800, 90.1, 0.8),
    Row("cifar10", "resnet56", "0.1-0.5", "0.95-0.85", 1e-4, 25, 84.3, 0.6),
    Row("cifar10", "resnet56", "0.1-1", "0.95-0.85", 1e-4, 50, 89.5, 0.2),
    Row("cifar10", "resnet56", "0.1-1", "0.95-0.85", 1e-4, 100, 88.7, 0.2),
    Row("cifar10", "densenet40", "0.1", "0.9", 1e-4, 100, 92.4, 0.1),
    Row("cifar10", "densenet40", "0.1", "0.9", 1e-4, 200, 91.7, 0.2),
    Row("cifar10", "densenet40", "0.1", "0.9", 1e-4, 400, 92.1, 0.3),
    Row("cifar10", "densenet40", "0.1-4", "0.95-0.85", 1e-4, 75, 89.8, 0.7),
    Row("cifar10", "densenet40", "0.1-4", "0.95-0.85", 1e-4, 100, 91.5, 0.3),
    Row("cifar10", "densenet40", "0.1-4", "0.95-0.85", 1e-4, 150, 90.8, 0.1),
    Row("cifar100", "resnet56", "0.005", "0.9", 1e-4, 100, 60.2, 0.5),
    Row("cifar100", "resnet56", "0.005", "0.9", 1e-4, 200, 60.3, 0.8),
    Row("cifar100", "resnet56", "0.005", "0.9", 1e-4, 400, 61.0, 0.3),
    Row("cifar100", "resnet56", "0.1-0.5", "0.95-0.85", 1e-4, 25, 61.4, 0.2),
    Row("cifar100", "resnet56", "0.1-0.5", "0.95-0.85", 1e-4, 50, 64.6, 0.8),
    Row("cifar100", "resnet56", "0.09-0.9", "0.95-0.85", 1e-4, 100, 66.3, 0.4),
]
# What is swept, and what is fixed, as the paper's text and captions say.
FIGURES: dict[str, dict[str, Any]] = {
    "3a": {"data": "cifar10", "model": "resnet32", "wd": {1e-3, 1e-4, 1e-5, 3e-5}, "tbs": 512, "lr": "0.1-1"},
    "3b": {"data": "cifar10", "model": "densenet40", "max_momentum": {0.99, 0.97, 0.95, 0.9}},
    "3b_constant": {"data": "cifar10", "model": "densenet40", "momentum": {0.99, 0.97, 0.95, 0.9}},
    "3c": {
        "data": "cifar10",
        "model": "densenet40",
        "wd": {1e-3, 1e-4, 1e-5, 1e-6},
        "tbs": 256,
        "lr": "0.1-4",
    },
    "3d": {"data": "cifar10", "model": "densenet40", "tbs": {256, 512}, "lr": "0.1-4"},
    "4a": {"data": "cifar100", "model": "resnet56", "wd": {3e-4, 1e-4, 1e-5}, "tbs": 512, "lr": "0.1-1"},
    "4b": {"data": "cifar100", "model": "resnet56", "tbs": {256, 512, 1024}, "lr": "0.1-1"},
}
KEYS = {
    "wd": "optimizer.wd",
    "momentum": "optimizer.momentum",
    "max_momentum": "scheduler.max_momentum",
    "tbs": "data.total_batch_size",
}
SHOWS_LOSS = {"3a", "4a"}
"""Figures of the validation loss; the others show accuracy."""


def row_file(number: int) -> Path:
    """The one file of a row."""
    (path,) = FOLDER.glob(f"table1_row{number:02d}_*.yaml")
    return path


def composed(name: str, *overrides: str) -> tuple[dict[str, Any], dict[str, str]]:
    """An experiment's configuration, checked, and the options that it chose."""
    config, choices = compose_job([f"experiment=radiuk2020/{name}", *overrides])
    check(config)
    return config, choices


def assert_schedule(config: dict[str, Any], lr: str) -> None:
    """One LR value is the step policy, a range one 1cycle run between the bounds."""
    schedule = config["scheduler"]
    if "-" not in lr:
        assert schedule == {
            "_target_": "tempo.scheduler.multistep.MultiStep",
            "lr": float(lr),
            "milestones": [0.5, 0.75],
            "factor": 0.1,
        }
        return
    low, high = map(float, lr.split("-"))
    assert schedule["_target_"] == "tempo.scheduler.onecycle.OneCycle"
    assert (schedule["min_lr"], schedule["max_lr"]) == (low, high)
    assert (schedule["max_momentum"], schedule["min_momentum"]) == (0.95, 0.85)
    assert (schedule["rise_fraction"], schedule["fall_fraction"]) == (0.45, 0.45)


def assert_defaults(config: dict[str, Any]) -> None:
    """Where the paper is silent."""
    assert config["data"]["augment"] == {"crop_padding": 4, "flip": True, "cutout": 0}
    assert config["data"]["normalize"] == "channel"
    assert config["optimizer"]["decay_norm_and_bias"] is True
    assert config["optimizer"]["dampening"] == 0
    assert config["scale"] == "full"
    assert config["checkpoint"]["select"] == "last"


@pytest.mark.parametrize("number", range(1, 19))
def test_a_row_is_what_the_table_says(number: int) -> None:
    row = TABLE_1[number - 1]
    config, choices = composed(row_file(number).stem)
    assert (choices["data"], choices["model"]) == (row.data, row.model)
    assert config["paper"] == {
        "source": "radiuk2020",
        "item": f"Table 1, row {number}",
        "metric": "test/accuracy",
        "mean": pytest.approx(row.mean / 100),
        "sd": pytest.approx(row.sd / 100),
    }
    assert config["data"]["total_batch_size"] == 512
    assert config["data"]["val_size"] == 0
    assert config["optimizer"]["wd"] == row.wd
    assert config["trainer"]["epochs"] == row.epochs
    assert_schedule(config, row.lr)
    if row.momentum == "0.9":
        assert config["optimizer"]["momentum"] == 0.9
    assert_defaults(config)


@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_sweeps_what_the_paper_varied(figure: str) -> None:
    said = FIGURES[figure]
    config, choices = composed(f"figure{figure}")
    assert (choices["data"], choices["model"]) == (said["data"], said["model"])
    item = f"Figure {figure.replace('_constant', ', constant momentum')}"
    assert (config["paper"]["source"], config["paper"]["item"]) == ("radiuk2020", item)
    shown = "val/loss" if figure in SHOWS_LOSS else "val/accuracy"
    assert (config["paper"]["metric"], config["objective"]) == (shown, shown)
    assert config["paper"]["mean"] is None
    assert config["paper"]["says"]
    if "lr" in said:
        assert_schedule(config, said["lr"])
    else:
        assert choices["scheduler"] == "range_test"
        bounds = (config["scheduler"]["min_momentum"], config["scheduler"]["max_momentum"])
        assert bounds == (
            (None, None) if figure == "3b_constant" else (0.85, config["optimizer"]["momentum"])
        )
    params = yaml.safe_load((FOLDER / f"figure{figure}.yaml").read_text())["hydra"]["sweeper"]["params"]
    (swept,) = [key for key in KEYS if isinstance(said.get(key), set)]
    assert list(params) == [KEYS[swept]]
    values = {float(value) for value in params[KEYS[swept]].split(",")}
    assert values == said[swept]
    node = config["optimizer"] | config["scheduler"] | {"tbs": config["data"]["total_batch_size"]}
    assert node[swept] in values
    for key in set(KEYS) & set(said) - {swept}:
        assert node[key] == said[key]
    for value in params[KEYS[swept]].split(","):
        job, _ = composed(f"figure{figure}", f"{KEYS[swept]}={value}")
        assert job["trainer"] == config["trainer"]
        if swept == "max_momentum":
            values_at = RangeTest(**{k: v for k, v in job["scheduler"].items() if k != "_target_"}).at
            assert [values_at(step, 9)["momentum"] for step in (0, 8)] == [float(value), 0.85]
    assert_defaults(config)


def test_the_table_runs_every_row_in_order() -> None:
    table = yaml.safe_load((FOLDER / "table1.yaml").read_text(encoding="utf-8"))
    rows = [f"experiment=radiuk2020/{row_file(number).stem}" for number in range(1, 19)]
    assert table["hydra"]["sweeper"]["rows"] == rows


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*_row*.yaml")) + sorted(FOLDER.glob("figure*.yaml")))
def test_the_header_is_evidence(path: Path) -> None:
    header = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    text = "\n".join(header)
    number = re.search(r"row(\d+)_", path.stem)
    if number:
        row = TABLE_1[int(number[1]) - 1]
        assert f"Table 1, row {int(number[1])}:" in text
        assert f"# paper: {row.mean} ± {row.sd} % test accuracy" in text
        assert re.search(rf"\b{row.epochs} epochs", text)
    else:
        assert f"Figure {path.stem.removeprefix('figure').removesuffix('_constant')}:" in text
        assert f'"{yaml.safe_load(path.read_text())["paper"]["says"]}"' in text
    assert f"# command: python src/train.py experiment=radiuk2020/{path.stem} " in text
    assert re.search(r"# cost: about [\d.]+ h a seed on 2 CPU cores, an estimate: \d+ epochs x", text)
    assert "# the paper is silent on: " in text
