"""A schedule gets nothing of what an experiment gives to another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from tempo.config.check import check
from tempo.config.resolve_interpolations import composed
from tempo.paths import register_resolvers
from tests.jobs import CONF, compose_job

STEP, CYCLE, TEST = (
    f"radiuk2020/{name}" for name in ("table1_row01_resnet56_cifar10_step_100", "figure3a", "figure3b")
)
RANGE_TEST = yaml.safe_load((CONF / "scheduler" / "range_test.yaml").read_text(encoding="utf-8"))


def range_test(*overrides: str) -> dict[str, Any]:
    """The checked configuration of `python src/lr_range.py <overrides>`."""
    register_resolvers()
    OmegaConf.register_new_resolver("run_folder", lambda *_: "unused", replace=True)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = composed(compose("lr_range", overrides=list(overrides), return_hydra_config=True))
    check(config)
    return config


@pytest.mark.parametrize("experiment", [STEP, CYCLE, TEST, "superconvergence/step"])
def test_a_range_test_of_an_experiment_has_its_own_schedule(experiment: str) -> None:
    config, full = range_test(f"experiment={experiment}"), compose_job([f"experiment={experiment}"])[0]
    lr = full["optimizer"]["lr"]
    assert config["scheduler"] == RANGE_TEST | {"min_lr": 0.001 * lr, "max_lr": 100 * lr}
    for node in ("data", "model", "optimizer", "ema"):
        assert config[node] == full[node]
    assert config["trainer"] == full["trainer"] | {"max_steps": 300, "log_every_n_steps": 1}
    assert config["paper"] is None


def test_what_the_command_line_gives_to_a_range_test_stays() -> None:
    given = ["scheduler.max_lr=4", "scheduler.min_momentum=0.85", "++scheduler.max_momentum=0.95"]
    node = range_test(f"experiment={CYCLE}", "optimizer.lr=0.2", *given)["scheduler"]
    assert node == RANGE_TEST | {"min_lr": 2e-4, "max_lr": 4, "min_momentum": 0.85, "max_momentum": 0.95}
    own = range_test(f"experiment={CYCLE}", "scheduler.max_lr=${optimizer.lr}")["scheduler"]
    assert own["max_lr"] == 0.1


def test_the_name_of_a_smoke_range_test_says_so() -> None:
    assert range_test("model=mlp")["name"] == "lr_range_mlp_digits"
    assert range_test("model=mlp", "scale=smoke")["name"] == "lr_range_mlp_digits_smoke"


@pytest.mark.parametrize(
    ("experiment", "option"),
    [
        (STEP, "onecycle"),
        (STEP, "range_test"),
        (CYCLE, "multistep"),
        (CYCLE, "range_test"),
        (TEST, "onecycle"),
    ],
)
def test_an_experiment_runs_under_any_schedule(experiment: str, option: str) -> None:
    config, choices = compose_job([f"experiment={experiment}", f"scheduler={option}"])
    check(config)
    node = yaml.safe_load((CONF / "scheduler" / f"{option}.yaml").read_text(encoding="utf-8"))
    assert config["scheduler"].keys() == node.keys()
    assert choices["scheduler"] == option


def test_an_experiment_keeps_what_it_gives_to_its_own_schedule() -> None:
    for override in ("seed=0", "scheduler=range_test"):
        node = compose_job([f"experiment={TEST}", override])[0]["scheduler"]
        assert (node["max_lr"], node["spacing"]) == (4.0, "linear")


def test_an_experiment_that_builds_on_another(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\ndefaults: [radiuk2020/figure3a, _self_]\nscheduler: {max_lr: 2.0}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text, encoding="utf-8")
    more = f"hydra.searchpath=[file://{tmp_path}]"
    assert compose_job([more, "experiment=mine"])[0]["scheduler"]["max_lr"] == 2.0
    assert compose_job([more, "experiment=mine", "scheduler=triangular"])[0]["scheduler"]["max_lr"] == 1.0
