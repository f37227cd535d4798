"""Folders of a procedure that already have runs or a plan, and candidates that cannot run."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from tempo.config.check import check
from tempo.errors import UserError
from tempo.paths import ROOT, register_resolvers
from tempo.record.run_json import RunRecord
from tempo.tuning.budget import Budget
from tempo.tuning.choice import Candidate
from tempo.tuning.stage_runs import StageRuns
from tempo.tuning.stages import Procedure
from tempo.tuning.tune_json import TUNE_FILE, EarlierCalls, read_state
from tempo.tuning.tune_settings import TuneSettings, read_settings
from tests.jobs import CONF, SMALL
from tests.tuning.test_plan import WANTED

ONE_EPOCH = ("trainer.epochs=1",)


@pytest.fixture(autouse=True)
def hydra() -> Iterator[None]:
    register_resolvers()
    OmegaConf.register_new_resolver("run_folder", lambda *_: "unused", replace=True)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def procedure_in(folder: Path, *overrides: str, **settings: Any) -> Procedure:
    runs = StageRuns(folder, [*SMALL, *overrides])
    checked = TuneSettings(**settings)
    procedure = Procedure(runs, checked, check(runs.config([])[0]), Budget(checked, runs))
    procedure.budget.plan = replace(WANTED, short_epochs=1)
    return procedure


def test_a_run_of_another_configuration_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "procedure"
    first = StageRuns(folder, [*SMALL, *ONE_EPOCH]).run("final", [])
    again = StageRuns(folder, [*SMALL, *ONE_EPOCH]).run("final", [])
    assert again.record == first.record
    assert not (tmp_path / "procedure.replaced").exists()
    other = StageRuns(folder, [*SMALL, *ONE_EPOCH, "optimizer.wd=0.01"]).run("final", [])
    assert other.record.config_hash != first.record.config_hash
    assert RunRecord.read(tmp_path / "procedure.replaced" / "final~1") == first.record
    assert RunRecord.read(folder / "final") == other.record


def test_a_record_that_cannot_be_read_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "procedure" / "final"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{", encoding="utf-8")
    StageRuns(tmp_path / "procedure", [*SMALL, *ONE_EPOCH]).run("final", [])
    assert (tmp_path / "procedure.replaced" / "final~1" / "run.json").read_text(encoding="utf-8") == "{"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.total_batch_size=100000", "failed: .*100000"),  # refused by the project
        (
            "model.hidden=[1000000000000]",
            "failed: not enough memory for the weights",
        ),  # refused by the allocator
    ],
)
def test_a_candidate_that_cannot_run_has_failed_and_the_others_go_on(
    tmp_path: Path, override: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    procedure = procedure_in(tmp_path / "procedure")
    candidates = [Candidate("as is", (), 0), Candidate("too large", (override,), 1), Candidate("b", (), 2)]
    procedure._stage("batch size", candidates)
    choice = procedure.choices[0]
    assert choice.chosen.label == "as is"
    assert [len(tried.scores) for tried in choice.candidates] == [1, 0, 1]
    failed = choice.as_json()["evidence"]["too large"]
    assert re.match(said, failed)
    assert "too large" in capsys.readouterr().out


def test_a_plan_of_the_same_command_goes_on(tmp_path: Path) -> None:
    (tmp_path / "procedure").mkdir()
    procedure = procedure_in(tmp_path / "procedure", "seed=1")
    procedure.budget.cuts = ["no batch sizes are tried: too expensive"]
    procedure.budget.started -= 100
    procedure.save()
    command = procedure_in(tmp_path / "procedure", "seed=1")._command()
    found = read_state(tmp_path / "procedure", command)
    assert (found.plan, found.cuts) == (procedure.plan, procedure.budget.cuts)
    assert found.price == procedure.budget.price
    assert 100 <= found.seconds < 130
    assert read_state(tmp_path, command) == EarlierCalls()


def test_what_a_killed_call_spent_after_it_last_saved_counts(tmp_path: Path) -> None:
    """Its runs wrote their records on."""
    procedure = procedure_in(tmp_path)
    procedure.save()
    (tmp_path / "final").mkdir()
    (tmp_path / "final" / "run.json").touch()
    saved = (tmp_path / TUNE_FILE).stat().st_mtime
    os.utime(tmp_path / "final" / "run.json", (saved + 50, saved + 50))
    assert 50 <= read_state(tmp_path, procedure._command()).seconds < 80


def test_a_diverged_run_counts_and_a_finished_one_needs_nothing(tmp_path: Path) -> None:
    runs = StageRuns(tmp_path / "procedure", [*SMALL, "trainer.epochs=4"])
    away = ["optimizer.lr=1e9"]
    assert runs.need("away", away) == "run"
    record = runs.run("away", away).record
    assert record.status == "diverged"
    assert runs.epochs == record.epochs
    assert [runs.need("away", away), runs.need("elsewhere", away)] == ["nothing", "nothing"]
    assert StageRuns(tmp_path / "procedure", [*SMALL, "trainer.epochs=4"]).need("away", away) == "nothing"
    assert runs.need("never", ["optimizer.lr=-1"]) == "nothing"


def test_a_stage_ends_where_the_final_run_needs_what_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """12 epochs for the final run and one for a candidate."""
    procedure = procedure_in(tmp_path, budget_epochs=14)
    candidate = Candidate("wd 0.01", ("optimizer.wd=0.01",), 0.01)
    procedure.runs.epochs = 1.0
    assert procedure._fits("weight decay", candidate, 2)
    assert capsys.readouterr().out == ""
    procedure.runs.epochs = 1.5
    assert not procedure._fits("weight decay", candidate, 2)
    assert procedure.plan.decay_runs == 2
    assert capsys.readouterr().out == (
        "cut       2 of 4 weight decays are tried: 12.5 epochs are left, and the final run needs them\n"
    )


@pytest.mark.parametrize(
    ("order", "expected"),
    [("paper", ["weight decays"]), ("batch_last", ["batch sizes", "weight decays"])],
)
def test_a_stage_is_cut_before_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], order: str, expected: list[str]
) -> None:
    """Of 14 epochs half a one is gone: 12 for the final run leave nothing for 4 or 3 candidates.

    In the paper's order, the batch size is chosen by then.
    """
    procedure = procedure_in(tmp_path, budget_epochs=14, order=order)
    procedure.runs.epochs = 0.5
    procedure.budget.plan = replace(procedure.plan, compare_seeds=0)
    candidates = [Candidate(f"wd {wd}", (f"optimizer.wd={wd}",), wd) for wd in (1e-3, 1e-4, 1e-5)]
    procedure._stage("weight decay", candidates)
    assert [tried.outcome for tried in procedure.choices[0].candidates] == ["not run: the budget"] * 3
    assert procedure.chosen == []
    cuts = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("cut")]
    assert cuts == [f"cut       no {what} are tried" for what in expected]


def test_a_procedure_of_another_command_is_refused(tmp_path: Path) -> None:
    procedure_in(tmp_path).save()
    before = (tmp_path / TUNE_FILE).read_bytes()
    with pytest.raises(UserError, match=r"other overrides, none there and optimizer\.wd=0\.01 here; choose"):
        procedure_in(tmp_path, "optimizer.wd=0.01").run()
    with pytest.raises(UserError, match=r"other settings, tune\.short_seeds=2 there and tune\.short_seeds=1"):
        procedure_in(tmp_path, short_seeds=1).run()
    assert [path.name for path in tmp_path.iterdir()] == [TUNE_FILE]
    assert (tmp_path / TUNE_FILE).read_bytes() == before


@pytest.mark.parametrize(
    "plan", [3, [], {}, {"colour": 1}, {**asdict(WANTED), "lr_runs": "two"}, {"lr_runs": 2}]
)
def test_a_damaged_plan_is_one_line(tmp_path: Path, plan: Any) -> None:
    procedure_in(tmp_path).save()
    state = json.loads((tmp_path / TUNE_FILE).read_text(encoding="utf-8"))
    (tmp_path / TUNE_FILE).write_text(json.dumps({**state, "plan": plan}), encoding="utf-8")
    with pytest.raises(UserError, match="has a damaged plan"):
        procedure_in(tmp_path).run()


@pytest.mark.parametrize("name", ["tune_digits", "tune_cifar10_cnn3"])
def test_a_procedure_of_an_earlier_version_is_read(name: str) -> None:
    """The records in docs/results are older than this code."""
    folder = ROOT / "docs" / "results" / name
    state = json.loads((folder / TUNE_FILE).read_text(encoding="utf-8"))
    found = read_state(folder, {key: state[key] for key in ("overrides", "settings")})
    assert found.plan is not None
    assert asdict(found.plan) == state["plan"]
    newer = {"order": "paper"}
    assert asdict(read_settings(state["settings"])) == {**newer, **state["settings"]}
    assert found.seconds >= state["seconds"]
