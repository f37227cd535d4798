"""The comparison is fair: one thing differs at a time."""

from __future__ import annotations

from typing import Any

from hydra import compose, initialize_config_dir

from tests.jobs import CONF, compose_job


def experiment(name: str) -> dict[str, Any]:
    config, _ = compose_job([f"experiment=superconvergence/{name}"])
    return config


def flat(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    for key, value in node.items():
        pairs |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return pairs


def differing(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    a, b = flat(one), flat(other)
    return {key for key in a.keys() | b.keys() if a.get(key) != b.get(key)}


def test_the_policies_differ_in_the_schedule_alone() -> None:
    different = differing(experiment("onecycle"), experiment("step"))
    assert {key for key in different if not key.startswith("scheduler.")} <= {
        "optimizer.lr",
        "optimizer.momentum",
    }


def test_four_times_the_epochs_are_that_and_nothing_else() -> None:
    step, longer = experiment("step"), experiment("step_4x")
    assert longer["trainer"]["epochs"] == 4 * step["trainer"]["epochs"]
    assert differing(step, longer) == {"trainer.epochs", "trainer.val_every_n_epochs"}


def test_the_rates_are_among_those_tried_with_a_seed_that_is_not_reported() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        tune, compared = (
            compose("train", [f"experiment=superconvergence/{name}"], return_hydra_config=True).hydra.sweeper
            for name in ("tune", "compare")
        )
    chosen = {
        "onecycle": f"scheduler.max_lr={experiment('onecycle')['scheduler']['max_lr']}",
        "step": f"optimizer.lr={experiment('step')['optimizer']['lr']}",
    }
    for name, rate in chosen.items():
        assert f"experiment=superconvergence/{name} {rate}" in list(tune.rows)
    assert str(tune.params.seed) not in str(compared.params.seed).split(",")
