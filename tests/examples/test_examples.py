"""Every project in examples/ trains, resumes to the same bits, and is evaluated to the record's numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tempo.paths import PROJECT, ROOT
from tempo.run.evaluate import evaluate
from tempo.run.run_request import RunRequest
from tempo.run.train import run
from tests.conftest import Train, Trained
from tests.jobs import checked_job

EXPERIMENTS = sorted((ROOT / "examples").glob("*/conf/experiment/*.yaml"))
SHORT = ("trainer=cpu", "trainer.threads=1", "trainer.epochs=2", "trainer.log_every_n_steps=1")


def name_of(experiment: Path) -> str:
    return f"{experiment.parents[2].name}/{experiment.stem}"


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=name_of)
def test_trains_resumes_and_is_evaluated(
    experiment: Path, tmp_path: Path, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PROJECT, str(experiment.parents[2]))
    overrides = [f"experiment={experiment.stem}", *SHORT]
    if experiment.stem == "fine_tune":
        overrides.append(f"init_from={train('experiment=pretrain', *SHORT, folder='first', small=()).folder}")
    whole = train(*overrides, folder="whole", small=())
    assert whole.record.status == "completed", whole.record.reason
    split, _, metric = whole.record.config["objective"].partition("/")
    assert metric in whole.record.metrics[split]
    assert metric in whole.record.metrics["test"]

    folder, stop_after = tmp_path / "stopped", whole.record.steps * 2 // 3
    folder.mkdir()
    for more in ([], [f"resume={folder}"]):
        config, choices = checked_job([*overrides, *more])
        record = run(
            RunRequest(
                config=config,
                folder=folder,
                overrides=[*overrides, *more],
                choices=choices,
                stop_after=None if more else stop_after,
            )
        )
        assert record.steps == (whole.record.steps if more else stop_after)
    resumed = Trained(folder, record)
    assert resumed.curves() == whole.curves()
    assert record.weights_sha256 == whole.record.weights_sha256
    assert record.metrics == whole.record.metrics

    assert evaluate(folder, accelerator="cpu").against_record == "the record's numbers"


def test_there_is_one_for_each_kind_of_task() -> None:
    assert {path.parents[2].name for path in EXPERIMENTS} >= {
        "tabular_regression",
        "segmentation",
        "character_model",
        "gan",
        "fine_tuning",
    }


def test_each_says_how_it_is_run() -> None:
    for experiment in EXPERIMENTS:
        readme = (experiment.parents[2] / "README.md").read_text(encoding="utf-8")
        folder = experiment.parents[2].relative_to(ROOT).as_posix()
        assert f"{PROJECT}={folder}" in readme
        assert f"python src/train.py experiment={experiment.stem}" in readme
