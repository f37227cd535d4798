"""Real runs that are trials: they report each epoch and stop when told to, all ranks together."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

optuna = pytest.importorskip("optuna", reason="Optuna is not installed: pip install -e '.[search]'")

from tempo.record.run_json import RunRecord  # noqa: E402
from tempo.run.run_request import RunRequest  # noqa: E402
from tempo.run.train import run  # noqa: E402
from tempo.trainer.optuna_trial import ENVIRONMENT_KEY, Reporting, Trial, make_pruner, open_storage  # noqa: E402
from tests.conftest import Trained  # noqa: E402
from tests.jobs import SMALL, checked_job, start_group  # noqa: E402

EPOCHS = 3
OVERRIDES = (*SMALL, f"trainer.epochs={EPOCHS}", "optimizer.lr=1e-6")


def trial_in(folder: Path, others: float | None, pruner: str = "median") -> Trial:
    """Start a trial, next to five completed ones with the value `others` in each epoch."""
    url = f"journal://{folder}/study.journal"
    study = optuna.create_study(
        study_name="test", storage=open_storage(url), direction="maximize", pruner=make_pruner(pruner, EPOCHS)
    )
    for _ in range(5 if others is not None else 0):
        by_epoch = dict.fromkeys(range(1, EPOCHS + 1), others)
        study.add_trial(optuna.trial.create_trial(value=others, intermediate_values=by_epoch))
    number = study.ask().number
    return Trial(storage=url, study="test", number=number, pruner=pruner, epochs=EPOCHS)


def reported(trial: Trial) -> dict[int, float]:
    study = optuna.load_study(study_name="test", storage=open_storage(trial.storage))
    return dict(study.trials[trial.number].intermediate_values)


def train(folder: Path, trial: Trial, *more: str) -> Trained:
    overrides = [*OVERRIDES, *more]
    config, choices = checked_job(overrides)
    folder.mkdir(exist_ok=True)
    request = RunRequest(config=config, folder=folder, overrides=overrides, choices=choices, trial=trial)
    return Trained(folder, run(request))


def test_each_validation_is_reported(tmp_path: Path) -> None:
    trial = trial_in(tmp_path, others=None)
    done = train(tmp_path / "run", trial)
    assert done.record.status == "completed"
    validated = {round(row["epoch"]): row["val/accuracy"] for row in done.rows() if "val/accuracy" in row}
    assert reported(trial) == validated
    assert list(validated) == [1, 2, 3]


def test_a_weak_run_is_pruned(tmp_path: Path) -> None:
    trial = trial_in(tmp_path, others=1.0)
    done = train(tmp_path / "run", trial)
    record = RunRecord.read(tmp_path / "run")
    assert (record.status, record.reason) == ("pruned", "stopped after epoch 1 of 3 by median")
    assert record.finished
    assert (record.epochs, record.steps) == (1.0, 5)
    assert set(record.metrics) == {"train", "val"}
    assert done.checkpoint()["global_step"] == 5
    assert list(reported(trial)) == [1]


def test_nothing_is_stopped_after_its_last_step(tmp_path: Path) -> None:
    trial = trial_in(tmp_path, others=1.0)
    done = train(tmp_path / "run", trial, "trainer.epochs=1")
    assert done.record.status == "completed"
    assert list(reported(trial)) == [1]


def test_a_lost_study_costs_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trial = Trial(storage=f"sqlite:///{tmp_path}/no/study.db", study="x", number=0, pruner="median", epochs=3)
    assert train(tmp_path / "run", trial).record.status == "completed"
    assert len([line for line in caplog.messages if "the study cannot be reached" in line]) == 1


def test_a_resumed_run_may_repeat_an_epoch(tmp_path: Path) -> None:
    trial = trial_in(tmp_path, others=0.0)
    assert [Reporting(trial).report(1, value) for value in (0.5, 0.25)] == [False, False]
    assert reported(trial) == {1: 0.5}


def test_a_run_that_was_killed_when_it_was_told_to_stop_is_told_again(tmp_path: Path) -> None:
    """Hyperband judges each rung once: without a note the resumed run would pass."""
    first = trial_in(tmp_path, others=None, pruner="hyperband")
    study = optuna.load_study(study_name="test", storage=open_storage(first.storage))
    trials = [first, *(replace(first, number=study.ask().number) for _ in range(8))]
    answers = [Reporting(trial).report(1, 1 - trial.number / 10) for trial in trials]
    assert True in answers
    assert [Reporting(trial).report(1, 0.0) for trial in trials] == answers


def test_all_ranks_stop_together(tmp_path: Path) -> None:
    """Rank 0 alone asks; a rank that went on would wait for the others for ever."""
    trial = trial_in(tmp_path, others=1.0)
    overrides = [*OVERRIDES, "data.total_batch_size=64"]
    group = start_group(tmp_path / "run", overrides, 2, environment=trial.environment())
    assert group.finish() == [0, 0]
    record = RunRecord.read(tmp_path / "run")
    assert (record.status, record.world_size, record.epochs) == ("pruned", 2, 1.0)
    assert list(reported(trial)) == [1]


def test_a_trial_travels_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Trial.from_environment() is None
    trial = Trial(storage="postgresql://me:secret@db/x", study="a b", number=7, pruner="median", epochs=3)
    text = trial.environment()[ENVIRONMENT_KEY]
    monkeypatch.setenv(ENVIRONMENT_KEY, text)
    assert Trial.from_environment() == trial
    values: Any = json.loads(text)
    assert values["number"] == 7
