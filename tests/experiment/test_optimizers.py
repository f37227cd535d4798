"""The seven optimizers of the distributed paper, in its setting and in the fair one."""

from __future__ import annotations

import csv
from typing import Any

import pytest
import yaml

from tempo.config.check import check
from tempo.paths import ROOT
from tests.jobs import CONF, compose_job

FOLDER = CONF / "experiment" / "distributed"
RESULTS = ROOT / "docs" / "results" / "optimizers"
# optimizer: class, momentum, test accuracy in the text (about so many per cent)
SEVEN: dict[str, tuple[str, float | None, int | None]] = {
    "sgd": ("SGD", None, 30),
    "momentum": ("SGD", 0.9, 40),
    "nesterov": ("SGD", 0.9, 25),
    "rmsprop": ("RMSprop", 0.0, 80),
    "adam": ("Adam", 0.9, None),
    "adagrad": ("Adagrad", None, 40),
    "nadam": ("NAdam", 0.9, None),
}
SWEEPS = ("optimizers_small_paper", "optimizers_small_tune", "optimizers_small_fair")


def sweeper(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))["hydra"]["sweeper"]


@pytest.mark.parametrize("name", SEVEN)
def test_one_setting_for_all_as_in_the_paper(name: str) -> None:
    config, choices = compose_job([f"experiment=distributed/optimizers_{name}"])
    check(config)
    kind, momentum, accuracy = SEVEN[name]
    optimizer = config["optimizer"]
    assert optimizer["_target_"] == f"torch.optim.{kind}"
    assert (optimizer["lr"], optimizer["wd"], optimizer.get("momentum")) == (1e-3, 0.0, momentum)
    assert optimizer.get("nesterov", False) == (name == "nesterov")
    assert (choices["data"], choices["model"], choices["scheduler"]) == ("cifar10", "cnn3", "constant")
    assert (config["data"]["total_batch_size"], config["trainer"]["epochs"]) == (128, 150)
    assert config["paper"]["mean"] is None  # "about 40 %" is not 40.00
    if accuracy is not None:
        assert config["paper"]["says"] == f"about {accuracy} %"
    assert config["paper"]["says"]
    header = (FOLDER / f"optimizers_{name}.yaml").read_text(encoding="utf-8")
    evidence = (
        "# paper: ",
        f"optimizers_{name} seed=0,1,2 -m",
        "# cost: about",
        "# the paper is silent on: ",
    )
    assert [part for part in evidence if part not in header] == []


def test_all_seven_are_one_command() -> None:
    assert sweeper("optimizers")["rows"] == [f"experiment=distributed/optimizers_{name}" for name in SEVEN]


@pytest.mark.parametrize("name", SWEEPS)
def test_the_small_sweeps_have_all_seven(name: str) -> None:
    rows = sweeper(name)["rows"]
    assert "# cost: about" in (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    assert [row.split()[:2] for row in rows] == [
        ["experiment=distributed/optimizers_small", f"optimizer={name}"] for name in SEVEN
    ]
    for row in rows:
        config, _ = compose_job(row.split())
        check(config)
        assert config["data"]["val_size"] > 0
        assert config["optimizer"]["wd"] == 0


def test_every_optimizer_has_the_same_budget_and_a_seed_apart() -> None:
    params = sweeper("optimizers_small_tune")["params"]
    assert len(params["optimizer.lr"].split(",")) == 5
    assert str(params["seed"]) not in sweeper("optimizers_small_paper")["params"]["seed"].split(",")


def test_the_rates_are_the_best_of_those_tried() -> None:
    tried = list(csv.DictReader((RESULTS / "tune.csv").read_text(encoding="utf-8").splitlines()))
    rates = [float(rate) for rate in sweeper("optimizers_small_tune")["params"]["optimizer.lr"].split(",")]
    assert len(tried) == len(rates) * len(SEVEN)
    for row, name in zip(sweeper("optimizers_small_fair")["rows"], SEVEN, strict=True):
        config, _ = compose_job(row.split())
        mine = [run for run in tried if run["optimizer"] == name]
        assert sorted(float(run["optimizer.lr"]) for run in mine) == rates
        best = max(
            (run for run in mine if run["status"] == "completed"),
            key=lambda run: float(run["val/accuracy"]),
        )
        assert config["optimizer"]["lr"] == float(best["optimizer.lr"])
