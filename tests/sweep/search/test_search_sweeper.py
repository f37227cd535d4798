"""Searches from the first draw to the last line, with a function in place of training."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

optuna = pytest.importorskip("optuna", reason="Optuna is not installed: pip install -e '.[search]'")

from tempo.errors import UserError  # noqa: E402
from tests.jobs import finish, fork_server  # noqa: E402
from tests.sweep.search.searching import kill_at, run, search, statuses, times_run  # noqa: E402

FINITE = ("optimizer.lr=1e-2,1e-3,1e-4,1e-5", "trainer.epochs=2")
CONTINUOUS = ("optimizer.lr=tag(log, interval(1e-4, 1))", "optimizer.wd=0,1e-4", "trainer.epochs=3")
FOUR = "hydra.sweeper.n_trials=4"
ONE_FAILED = "1 of 4 jobs have no result"


def study(folder: Path) -> Any:
    (name,) = optuna.get_all_study_names(f"sqlite:///{folder}/study.db")
    return optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/study.db")


def states(folder: Path) -> list[str]:
    return [trial.state.name for trial in study(folder).trials]


def test_a_search_continues_to_the_number_of_trials(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = search(tmp_path, run, CONTINUOUS, "hydra.sweeper.n_trials=3")
    again = search(tmp_path, run, CONTINUOUS, "hydra.sweeper.n_trials=3")
    more = search(tmp_path, run, CONTINUOUS, "hydra.sweeper.n_trials=5")
    assert len(first) == 3
    assert again == first == more[:3]
    assert list(times_run(tmp_path).values()) == [1] * 5
    assert len(study(tmp_path).trials) == 5
    assert study(tmp_path).best_value == max(more)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("search ")]
    assert "3 trials, sampler tpe" in lines[0]
    assert "5 trials, 3 finished before, sampler tpe" in lines[2]
    plain = json.loads((tmp_path / "search.json").read_text())
    assert [(trial["number"], trial["value"]) for trial in plain["trials"]] == list(enumerate(more))


def test_a_finite_space_is_exhausted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search(tmp_path, run, FINITE, "hydra.sweeper.n_trials=20")
    assert sorted(times_run(tmp_path)) == ["lr=0.01", "lr=1e-3", "lr=1e-4", "lr=1e-5"]
    assert "the space has 4 points, and each has had its trial" in capsys.readouterr().out


def test_a_failure_stops_no_other_trial_and_gets_another_try(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def out_of_luck(config: DictConfig) -> Any:
        if config.optimizer.lr == 1e-3:
            raise RuntimeError("out of luck")
        return run(config)

    with pytest.raises(UserError, match=ONE_FAILED):
        search(tmp_path, out_of_luck, FINITE)
    assert sorted(times_run(tmp_path)) == ["lr=0.01", "lr=1e-4", "lr=1e-5"]
    output = capsys.readouterr().out
    assert "RuntimeError: out of luck" in output
    assert "rerun: python " in output
    search(tmp_path, run, FINITE)
    assert times_run(tmp_path) == {"lr=0.01": 1, "lr=1e-3": 1, "lr=1e-4": 1, "lr=1e-5": 1}
    assert sorted(states(tmp_path)) == ["COMPLETE"] * 4 + ["FAIL"]


def test_failures_in_a_row_stop_the_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(config: DictConfig) -> Any:
        if config.optimizer.lr < 0.1:
            raise RuntimeError("out of luck")
        return run(config)

    with pytest.raises(UserError, match="have no result"):
        search(tmp_path, fails, CONTINUOUS, "hydra.sweeper.n_trials=20", "hydra.sweeper.max_failures=2")
    ends = states(tmp_path)
    assert ends[-2:] == ["FAIL", "FAIL"]
    assert "FAIL FAIL" not in " ".join(ends[:-1])
    assert "2 trials in a row failed: the search was stopped" in capsys.readouterr().out


def test_a_point_that_cannot_be_composed_fails_alone(tmp_path: Path) -> None:
    """Each edge of the space works, but SGD without momentum does not go with 1cycle."""
    arguments = ("optimizer=sgd,momentum,nesterov", "scheduler=onecycle,constant")
    with pytest.raises(UserError, match=r"scheduler=onecycle.*the schedule changes momentum"):
        search(tmp_path, run, arguments)
    arguments = ("optimizer=momentum,sgd", "scheduler=onecycle,constant")
    for _ in range(2):
        with pytest.raises(UserError, match=f"{ONE_FAILED}; rerun the same command") as caught:
            search(tmp_path, run, arguments)
        assert "alone" not in str(caught.value)  # no command could run it alone
        assert list(times_run(tmp_path).values()) == [1] * 3


def test_ctrl_c_keeps_the_trial_for_the_next_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(config: DictConfig) -> Any:
        if len(times_run(tmp_path)) == 2:
            raise KeyboardInterrupt
        return run(config)

    with pytest.raises(SystemExit) as caught:
        search(tmp_path, stopped, CONTINUOUS, FOUR)
    assert caught.value.code == 130
    assert "stopped, 2 of 4 trials left; resume with: python " in capsys.readouterr().out
    search(tmp_path, run, CONTINUOUS, FOUR)
    assert states(tmp_path) == ["COMPLETE"] * 4


KILLED = ("hydra.sweeper.n_trials=3", "hydra.sweeper.sampler=random")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], set[str]]:
    """The values and the folders of a search that is not interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    return search(folder, run, CONTINUOUS, *KILLED), set(times_run(folder))


@pytest.mark.parametrize("cut", ["early", "late", "recorded"])
def test_a_killed_search_loses_and_repeats_nothing(
    tmp_path: Path, whole: tuple[list[Any], set[str]], cut: str
) -> None:
    """SIGKILL in the second run: before its record, in its second epoch, after its last record."""
    process = fork_server().Process(target=kill_at, args=(str(tmp_path), CONTINUOUS, KILLED, cut, 2))
    process.start()
    assert finish(process) == -signal.SIGKILL
    before = times_run(tmp_path)
    assert len(before) == 2

    values, folders = whole
    assert search(tmp_path, run, CONTINUOUS, *KILLED) == values
    assert set(times_run(tmp_path)) == folders
    again = {slug for slug, times in times_run(tmp_path).items() if times > 1}
    assert len(again) == (cut != "recorded")
    assert again <= set(before)
    trials = study(tmp_path).trials
    assert [trial.number for trial in trials] == [0, 1, 2]
    assert states(tmp_path) == ["COMPLETE"] * 3
    assert [sorted(trial.intermediate_values) for trial in trials] == [[1, 2, 3]] * 3


@pytest.mark.parametrize("launcher", ["local", "basic"])
def test_launchers_of_several_processes_and_of_others(tmp_path: Path, launcher: str) -> None:
    """Ours draws a trial when a slot is free; Hydra's takes batches, and gives up at a job that raises."""
    settings = {
        "local": ("hydra.launcher.n_jobs=2", "hydra.launcher.preload=[]"),
        "basic": ("hydra.sweeper.batch=2",),
    }

    def job(config: DictConfig) -> Any:
        if HydraConfig.get().sweeper.trial == 2:
            if launcher == "local":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("out of luck")
        return run(config)

    chosen = (f"hydra/launcher={launcher}", *settings[launcher], FOUR)
    with pytest.raises(UserError, match=ONE_FAILED):
        search(tmp_path, job, CONTINUOUS, *chosen)
    search(tmp_path, run, CONTINUOUS, *chosen)
    assert statuses(tmp_path) == ["completed"] * 4
    assert list(times_run(tmp_path).values()) == [1] * 4
    assert sorted(states(tmp_path)) == ["COMPLETE"] * 4 + ["FAIL"]
    assert states(tmp_path)[2] == "FAIL"


@pytest.mark.parametrize("pruner", ["hyperband", "median"])
def test_weak_trials_are_stopped_early(tmp_path: Path, pruner: str) -> None:
    arguments = ("optimizer.lr=1e-2,5e-3,2e-2,1e-5,1e-1,1", "trainer.epochs=3")
    settings = (f"hydra.sweeper.pruner={pruner}", "hydra.sweeper.sampler=random")
    search(tmp_path, run, arguments, *settings)
    pruned = [trial for trial in study(tmp_path).trials if trial.state.name == "PRUNED"]
    assert pruned
    assert sorted(statuses(tmp_path)) == ["completed"] * (6 - len(pruned)) + ["pruned"] * len(pruned)
    assert study(tmp_path).best_params == {"optimizer.lr": 1e-2}
    assert all(trial.last_step < 3 for trial in pruned)
    search(tmp_path, run, arguments, *settings)
    assert list(times_run(tmp_path).values()) == [1] * 6


def test_hyperband_stops_at_its_rungs_only(tmp_path: Path) -> None:
    """With 9 epochs, of which a third continues, trials are judged after epochs 1 and 3."""
    arguments = ("optimizer.lr=range(0.001, 0.02, 0.001)", "trainer.epochs=9")
    settings = ("hydra.sweeper.pruner=hyperband", "hydra.sweeper.sampler=random", "hydra.sweeper.n_trials=6")
    search(tmp_path, run, arguments, *settings)
    ends = {(trial.state.name, trial.last_step) for trial in study(tmp_path).trials}
    assert ends <= {("COMPLETE", 9), ("PRUNED", 1), ("PRUNED", 3)}
    assert len(ends) > 1


def test_trials_of_another_configuration_are_not_mixed_in(tmp_path: Path) -> None:
    search(tmp_path, run, FINITE, "hydra.sweeper.n_trials=2")
    path = next(tmp_path.glob("*/run.json"))
    values = json.loads(path.read_text())
    values["config"]["optimizer"]["wd"] = 0.5
    path.write_text(json.dumps(values | {"config_hash": "0" * 16}))
    with pytest.raises(UserError, match=r"another configuration: optimizer\.wd was 0\.5 and is now"):
        search(tmp_path, run, FINITE, "hydra.sweeper.n_trials=2")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("hydra.sweeper.n_trials=0",), r"n_trials=0 must be at least 1; set e.g. hydra.sweeper.n_trials=1"),
        (("hydra.sweeper.n_trials=many",), r"n_trials='many' is not a whole number"),
        (("hydra.sweeper.max_failures=0",), r"max_failures=0"),
        (("hydra.sweeper.sampler=ransom",), r"sampler='ransom' is not one of random, tpe, gp"),
        (("hydra.sweeper.pruner=hyper",), r"pruner='hyper' is not one of none, hyperband, median"),
        (("hydra.sweeper.pruner=median", "data.val_size=0"), r"needs validation images"),
        (("hydra.sweeper.pruner=hyperband", "trainer.max_steps=5"), r"counts epochs"),
        (("hydra.sweeper.pruner=hyperband", "trainer.epochs=1,2"), r"runs of one length"),
        (("objective=test/accuracy",), r"chooses by validation"),
        (("hydra.sweeper.storage=sqlite:////nowhere/x.db",), r"nowhere/x\.db cannot be used"),
    ],
)
def test_what_cannot_work_is_one_line_before_a_run(
    tmp_path: Path, settings: tuple[str, ...], message: str
) -> None:
    arguments = [*FINITE, *(text for text in settings if not text.startswith("hydra"))]
    with pytest.raises(UserError, match=message) as caught:
        search(tmp_path, run, arguments, *settings)
    assert "\n" not in str(caught.value)
    assert times_run(tmp_path) == {}


def test_a_damaged_study_is_drawn_anew_from_the_records(tmp_path: Path) -> None:
    values = search(tmp_path, run, FINITE)
    study = tmp_path / "study.db"
    study.write_bytes(b"damaged" * 1000)
    with pytest.raises(
        UserError, match=r"study\.db cannot be used: .*; delete the file and rerun the command"
    ):
        search(tmp_path, run, FINITE)
    study.unlink()
    assert search(tmp_path, run, FINITE) == values
    assert set(times_run(tmp_path).values()) == {1}


def test_a_password_on_the_command_line_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "hydra.sweeper.storage=postgresql://me:secret@db/x"
    monkeypatch.setattr(sys, "argv", ["src/train.py", url])
    with pytest.raises(UserError, match=r"oc\.env:") as caught:
        search(tmp_path, run, FINITE)
    assert "secret" not in str(caught.value)


def test_without_optuna_one_line_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"optuna is not installed: pip install -e '\.\[search\]'"):
        search(tmp_path, run, FINITE)


def test_jobs_know_their_trial_and_hold_no_password(tmp_path: Path) -> None:
    def job(config: DictConfig) -> Any:
        assert HydraConfig.get().sweeper.trial in range(4)
        return run(config)

    search(tmp_path, job, FINITE)
    for path in tmp_path.glob("*/run.json"):
        assert not any("hydra" in override for override in json.loads(path.read_text())["overrides"])
