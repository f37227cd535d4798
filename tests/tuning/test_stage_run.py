"""A study's folder that already has runs or a plan, and candidates that cannot run."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from tempo.errors import UserError
from tempo.paths import register_resolvers
from tempo.record.run_json import RunRecord
from tempo.tuning.budget import Budget
from tempo.tuning.choice import Candidate
from tempo.tuning.procedure import Procedure
from tempo.tuning.settings import TuneSettings
from tempo.tuning.stage_run import StageRunner
from tempo.tuning.state import STATE_FILE, Known, known
from tests.jobs import CONF, SMALL
from tests.tuning.test_plan import NODE, WANTED

ONE_EPOCH = ("trainer.epochs=1",)


@pytest.fixture(autouse=True)
def hydra() -> Iterator[None]:
    register_resolvers()
    OmegaConf.register_new_resolver("run_folder", lambda *_: "unused", replace=True)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def procedure_in(folder: Path, *overrides: str, **settings: Any) -> Procedure:
    runner = StageRunner(folder, [*SMALL, *overrides])
    values, _ = runner.config([])
    checked = TuneSettings.of({**NODE, **settings})
    made = Procedure(runner, checked, values, Budget(checked, runner))
    made.budget.plan = replace(WANTED, short_epochs=1)
    return made


def test_a_run_of_another_configuration_is_kept(tmp_path: Path) -> None:
    study = tmp_path / "study"
    first = StageRunner(study, [*SMALL, *ONE_EPOCH]).run("final", [])
    again = StageRunner(study, [*SMALL, *ONE_EPOCH]).run("final", [])
    assert again.record == first.record
    assert not (tmp_path / "study.replaced").exists()
    other = StageRunner(study, [*SMALL, *ONE_EPOCH, "optimizer.wd=0.01"]).run("final", [])
    assert other.record.config_hash != first.record.config_hash
    assert RunRecord.read(tmp_path / "study.replaced" / "final~1") == first.record
    assert RunRecord.read(study / "final") == other.record


def test_a_record_that_cannot_be_read_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "study" / "final"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{", encoding="utf-8")
    StageRunner(tmp_path / "study", [*SMALL, *ONE_EPOCH]).run("final", [])
    assert (tmp_path / "study.replaced" / "final~1" / "run.json").read_text(encoding="utf-8") == "{"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.total_batch_size=100000", "failed: .*100000"),  # refused by the project
        ("model.hidden=[1000000000000]", "failed: RuntimeError: "),  # refused by the allocator
    ],
)
def test_a_candidate_that_cannot_run_has_failed_and_the_others_go_on(
    tmp_path: Path, override: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    procedure = procedure_in(tmp_path / "study")
    candidates = [Candidate("as is", (), 0), Candidate("too large", (override,), 1), Candidate("b", (), 2)]
    procedure._stage("batch size", candidates)
    choice = procedure.choices[0]
    assert choice.chosen.label == "as is"
    assert [len(each.scores) for each in choice.candidates] == [1, 0, 1]
    failed = choice.as_json()["evidence"]["too large"]
    assert re.match(said, failed)
    assert "too large" in capsys.readouterr().out


def test_a_plan_of_the_same_command_goes_on(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    procedure = procedure_in(tmp_path / "study", "seed=1")
    procedure.budget.cuts = ["no batch sizes are tried: too dear"]
    procedure.budget.started -= 100
    procedure.save()
    command = procedure_in(tmp_path / "study", "seed=1")._command()
    found = known(tmp_path / "study", command)
    assert (found.plan, found.cuts) == (procedure.plan, procedure.budget.cuts)
    assert found.price == procedure.budget.price
    assert 100 <= found.seconds < 130
    assert known(tmp_path, command) == Known()


def test_what_a_killed_call_spent_after_it_last_saved_counts(tmp_path: Path) -> None:
    """Its runs wrote their records on."""
    procedure = procedure_in(tmp_path)
    procedure.save()
    (tmp_path / "final").mkdir()
    (tmp_path / "final" / "run.json").touch()
    saved = (tmp_path / STATE_FILE).stat().st_mtime
    os.utime(tmp_path / "final" / "run.json", (saved + 50, saved + 50))
    assert 50 <= known(tmp_path, procedure._command()).seconds < 80


def test_a_diverged_run_counts_and_a_finished_one_needs_nothing(tmp_path: Path) -> None:
    runner = StageRunner(tmp_path / "study", [*SMALL, "trainer.epochs=4"])
    away = ["optimizer.lr=1e9"]
    assert runner.need("away", away) == "run"
    record = runner.run("away", away).record
    assert record.status == "diverged"
    assert runner.epochs == record.epochs
    assert [runner.need("away", away), runner.need("elsewhere", away)] == ["nothing", "nothing"]
    assert StageRunner(tmp_path / "study", [*SMALL, "trainer.epochs=4"]).need("away", away) == "nothing"
    assert runner.need("never", ["optimizer.lr=-1"]) == "nothing"


def test_a_stage_ends_where_the_final_run_needs_what_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """12 epochs for the final run and one for a candidate."""
    procedure = procedure_in(tmp_path, budget_epochs=14)
    candidate = Candidate("wd 0.01", ("optimizer.wd=0.01",), 0.01)
    procedure.runner.epochs = 1.0
    assert procedure._affordable("weight decay", candidate, 2)
    assert capsys.readouterr().out == ""
    procedure.runner.epochs = 1.5
    assert not procedure._affordable("weight decay", candidate, 2)
    assert procedure.plan.decay_runs == 2
    assert capsys.readouterr().out == (
        "cut       2 of 4 weight decays are tried: 12.5 epochs are left, and the final run needs its part\n"
    )


def test_a_stage_is_cut_before_it_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 14 epochs half a one is gone: 12 for the final run leave nothing for 4 or 3 candidates."""
    procedure = procedure_in(tmp_path, budget_epochs=14)
    procedure.runner.epochs = 0.5
    procedure.budget.plan = replace(procedure.plan, compare_seeds=0)
    candidates = [Candidate(f"wd {wd}", (f"optimizer.wd={wd}",), wd) for wd in (1e-3, 1e-4, 1e-5)]
    procedure._stage("weight decay", candidates)
    assert [each.outcome for each in procedure.choices[0].candidates] == ["not run: the budget"] * 3
    assert procedure.chosen == []
    cuts = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("cut")]
    assert cuts == ["cut       no batch sizes are tried", "cut       no weight decays are tried"]


def test_a_study_of_another_command_is_refused(tmp_path: Path) -> None:
    procedure_in(tmp_path).save()
    before = (tmp_path / STATE_FILE).read_bytes()
    with pytest.raises(UserError, match=r"other overrides, none there and optimizer\.wd=0\.01 here: choose"):
        procedure_in(tmp_path, "optimizer.wd=0.01").run()
    with pytest.raises(UserError, match=r"other settings, tune\.short_seeds=2 there and tune\.short_seeds=1"):
        procedure_in(tmp_path, short_seeds=1).run()
    assert [each.name for each in tmp_path.iterdir()] == [STATE_FILE]
    assert (tmp_path / STATE_FILE).read_bytes() == before


@pytest.mark.parametrize(
    "plan", [3, [], {}, {"colour": 1}, {**WANTED.as_json(), "lr_runs": "two"}, {"lr_runs": 2}]
)
def test_a_damaged_plan_is_one_line(tmp_path: Path, plan: Any) -> None:
    procedure_in(tmp_path).save()
    state = json.loads((tmp_path / STATE_FILE).read_text(encoding="utf-8"))
    (tmp_path / STATE_FILE).write_text(json.dumps({**state, "plan": plan}), encoding="utf-8")
    with pytest.raises(UserError, match="has no plan that can be used"):
        procedure_in(tmp_path).run()
