"""Every experiment in its smoke form, and the table as one command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from report import main
from tempo.config.check import check
from tempo.config.json_schema import is_own
from tempo.sweep.grid import parse_grid
from tests.conftest import Train
from tests.jobs import CONF, compose_job, trains
from tests.report.example_runs import write_run

EXPERIMENTS = sorted(
    path.relative_to(CONF / "experiment").with_suffix("").as_posix()
    for path in (CONF / "experiment").rglob("*.yaml")
    if is_own(path) and trains(path)
)
SMOKE = "SMOKE: not comparable"


def differing_nodes(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    """Top-level keys whose values are not the same."""
    return {key for key in one if one[key] != other[key]}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_smoke_changes_the_data_and_the_length_only(experiment: str) -> None:
    full, _ = compose_job([f"experiment={experiment}"])
    smoke, choices = compose_job([f"experiment={experiment}", "scale=smoke"])
    check(full)
    check(smoke)
    assert (full["scale"], smoke["scale"]) == ("full", "smoke")
    assert choices["data"] == "digits"
    assert smoke["name"].endswith("_smoke")
    assert smoke["trainer"] == full["trainer"] | {"epochs": 2}
    assert differing_nodes(full, smoke) <= {"scale", "name", "data", "trainer"}


def test_the_user_has_the_last_word() -> None:
    config, choices = compose_job(
        [
            "experiment=radiuk2020/figure3a",
            "scale=smoke",
            "data=synthetic",
            "model=wrn32_4",
            "trainer.epochs=1",
        ]
    )
    assert (choices["data"], choices["model"], config["trainer"]["epochs"]) == ("synthetic", "wrn32_4", 1)


def test_a_smoke_run_says_so(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    few = ("trainer=cpu", "trainer.threads=1", "trainer.max_steps=2", "model=mlp")
    run = train("experiment=radiuk2020/figure4b", "scale=smoke", small=few)
    assert run.record.status == "completed"
    assert run.record.config["scale"] == "smoke"
    assert run.record.name.endswith("_smoke")
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == f"*** {SMOKE} ***"
    assert printed.count(SMOKE) == 2  # header and results


def test_one_command_is_every_row_with_every_seed() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["experiment=radiuk2020/table1"], return_hydra_config=True)
    sweeper = config.hydra.sweeper
    arguments = ["experiment=radiuk2020/table1", "scale=smoke", "seed=0,1"]
    grid = parse_grid(OverridesParser.create(), arguments, sweeper.params, sweeper.rows)
    rows = [name for name in EXPERIMENTS if "table1_row" in name]
    assert [job.overrides for job in grid.combinations] == [
        ("scale=smoke", f"experiment={row}", f"seed={seed}") for row in rows for seed in (0, 1)
    ]


def test_the_table_stands_beside_the_papers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (4, 12):
        (name,) = (name for name in EXPERIMENTS if f"table1_row{number:02d}" in name)
        config, _ = compose_job([f"experiment={name}"])
        for seed in (0, 1):
            write_run(tmp_path / f"{number},{seed}", test=0.85 + seed / 100, **(config | {"seed": seed}))

    main(["--paper", "radiuk2020/table1", str(tmp_path)])

    lines = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith("radiuk2020, Table 1, row ")
    ]
    assert [line.partition(" (")[0].rpartition(" ")[2] for line in lines] == [str(n) for n in range(1, 19)]
    assert "ours 85.50 ± 0.71 (n = 2), paper 84.30 ± 0.60: +1.20 percentage points" in lines[3]
    assert lines[4].endswith(
        "not run: python src/train.py experiment=radiuk2020/table1_row05_resnet56_cifar10_1cycle_50"
    )
    assert "paper 90.80 ± 0.10: -5.30 percentage points" in lines[11]
