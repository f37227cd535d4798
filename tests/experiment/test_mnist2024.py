"""The experiments of mnist2024 against what the paper says."""

from __future__ import annotations

import pytest
import yaml

from tempo.config.check import check
from tests.jobs import CONF, compose_job

FOLDER = CONF / "experiment" / "mnist2024"
METHODS = {
    "sgd": ("SGD", None),
    "momentum": ("SGD", 0.9),
    "rmsprop": ("RMSprop", 0.0),
    "adam": ("Adam", 0.9),
    "adagrad": ("Adagrad", None),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_the_papers_setting(name: str) -> None:
    config, choices = compose_job([f"experiment=mnist2024/{name}"])
    check(config)
    kind, momentum = METHODS[name]
    optimizer = config["optimizer"]
    assert optimizer["_target_"] == f"torch.optim.{kind}"
    assert (optimizer["lr"], optimizer["wd"], optimizer.get("momentum")) == (1e-3, 0.0, momentum)
    if name == "momentum":
        assert optimizer["dampening"] == optimizer["momentum"]  # v = (1 - b) g + b v
    assert (choices["data"], choices["model"], choices["scheduler"]) == ("mnist", "mlp", "constant")
    assert config["model"]["hidden"] == [128, 64, 32]
    assert (config["data"]["total_batch_size"], config["data"]["normalize"]) == (32, "unit")
    assert (config["data"]["val_size"], config["checkpoint"]["select"]) == (0, "last")
    assert (config["trainer"]["epochs"], config["trainer"]["test_every_n_epochs"]) == (20, 1)
    assert config["trainer"]["log_every_n_steps"] == 60_000 // 32  # the curves are by epoch


def test_lbfgs_has_a_large_batch_and_says_so() -> None:
    config, _ = compose_job(["experiment=mnist2024/lbfgs"])
    check(config)
    assert config["optimizer"]["line_search_fn"] == "strong_wolfe"
    assert config["data"]["total_batch_size"] == 10_000
    assert "# not the paper's setting" in (FOLDER / "lbfgs.yaml").read_text(encoding="utf-8")


def test_the_whole_paper_is_one_command() -> None:
    table = yaml.safe_load((FOLDER / "optimizers.yaml").read_text(encoding="utf-8"))
    rows = table["hydra"]["sweeper"]["rows"]
    assert rows == [f"experiment=mnist2024/{name}" for name in (*METHODS, "lbfgs")]
    evidence = (
        "# mnist2024, ",
        "# paper: ",
        "# command: python src/train.py",
        "# cost: about",
        "silent on: ",
    )
    for name in (*METHODS, "lbfgs"):
        text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
        assert [part for part in evidence if part not in text] == [], name
