"""Range tests of real runs: their files, what is printed, and the errors."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from matplotlib.figure import Figure

from lr_range import without_step_limit
from tempo.config.schema import SMOKE
from tempo.errors import UserError
from tempo.record.run_json import RunRecord
from tempo.trainer.console import print_results
from tempo.tuning.range_figure import draw
from tempo.tuning.range_result import analyse, write_json
from tempo.tuning.range_test import overrides_to_use, text_of
from tests.conftest import Train
from tests.script_process import Ended, run_script

TEST = (
    "model=mlp",
    "trainer=cpu",
    "trainer.threads=1",
    "scheduler=range_test",
    "trainer.max_steps=200",
    "trainer.log_every_n_steps=1",
    "divergence.factor=4",
)


def lr_range(*arguments: str) -> Ended:
    """Run the script as a user does."""
    given = ("trainer=cpu", "trainer.threads=1", "model=mlp", *arguments)
    return run_script("lr_range.py", *given, environment={"COLUMNS": "200"})


def test_a_sweep_has_one_proposal_per_setting(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    command = ["-m", "optimizer.momentum=0.9,0.0", "seed=0,1", "trainer.max_steps=150"]
    result = lr_range(*command, f"hydra.sweep.dir={folder}")
    assert result.code == 0, result.err
    content = json.loads((folder / "lr_range.json").read_text(encoding="utf-8"))
    assert [setting["label"] for setting in content["settings"]] == ["momentum=0", "momentum=0.9"]
    without, with_momentum = content["settings"]
    assert without["seeds"] == with_momentum["seeds"] == [0, 1]
    for setting in content["settings"]:
        bounds, points = setting["proposal"], setting["points"]
        assert bounds["min_lr"] == pytest.approx(bounds["max_lr"] / 10, rel=0.1)
        assert bounds["max_lr"] <= points["edge"] / 4
        assert all((folder / run / "metrics.csv").is_file() for run in setting["runs"])
        assert setting["label"] in result.out
    # Momentum m makes steps 1 / (1 - m) times as long, so its edge comes earlier.
    assert with_momentum["points"]["edge"] < without["points"]["edge"]
    assert "max_lr of the single seeds" in result.out
    assert (folder / "lr_range.png").stat().st_size > 10_000
    again = lr_range(*command, f"hydra.sweep.dir={folder}")
    assert "4 finished before" in again.out
    assert json.loads((folder / "lr_range.json").read_text(encoding="utf-8")) == content


def test_another_schedule_is_refused_before_the_first_job_of_a_sweep(tmp_path: Path) -> None:
    result = lr_range("-m", "scheduler=range_test,onecycle", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert result.code == 1
    assert result.err.startswith("scheduler=onecycle: src/lr_range.py needs the rising learning rate")
    assert len(result.err.splitlines()) == 1
    assert not (tmp_path / "sweep").exists()


def test_epochs_replace_the_steps_wherever_the_flags_stand() -> None:
    steps, epochs = "trainer.max_steps=null", "trainer.epochs=3"
    assert without_step_limit([epochs, "--cfg", "job"]) == [steps, epochs, "--cfg", "job"]
    assert without_step_limit(["--cfg", "job", epochs]) == ["--cfg", "job", steps, epochs]
    for unchanged in (["seed=1", "-m"], [epochs, "trainer.max_steps=9"]):
        assert without_step_limit(unchanged) == unchanged


def test_a_smoke_run_is_labelled_in_every_output(train: Train) -> None:
    result = analyse(train(*TEST, "scale=smoke", small=()).folder)
    assert text_of(result).splitlines()[0] == f"*** {SMOKE} ***"
    assert json.loads(write_json(result).read_text(encoding="utf-8"))["label"] == SMOKE
    assert SMOKE in draw(result).with_suffix(".svg").read_text(encoding="utf-8")


def test_a_run_its_files_and_the_cycle_that_uses_them(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = train(*TEST, small=())
    result = analyse(trained.folder)
    best = result.best
    assert best is not None
    points, max_lr = best.proposal.points, best.proposal.max_lr
    assert points is not None
    assert points.edge is not None
    assert max_lr is not None
    assert points.falls_at < points.minimum
    assert max_lr < points.edge
    path = write_json(result)
    assert path == trained.folder / "lr_range.json"
    assert draw(result).is_file()
    with monkeypatch.context() as patched:
        drawn: list[Figure] = []
        patched.setattr("tempo.tuning.range_figure.save", lambda figure, *_: drawn.append(figure))
        draw(result)
    named = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in drawn[0].axes]
    assert named == [
        ["minimum", "edge of divergence", "proposed min_lr to max_lr"],
        ["steepest descent", "proposed min_lr to max_lr"],
    ]
    assert "max_lr" in text_of(result)
    assert not any(SMOKE in path.read_text() for path in (path, path.with_suffix(".svg")))
    assert SMOKE not in text_of(result)

    onecycle = ["scheduler=onecycle", "scheduler.max_lr=auto", f"scheduler.range_test={path}"]
    cycle = train("model=mlp", "trainer=cpu", "trainer.epochs=2", *onecycle, folder="cycle", small=())
    assert cycle.record.status == "completed"
    assert cycle.record.config["scheduler"]["max_lr"] == max_lr
    highest = max(row["lr"] for row in cycle.rows() if "lr" in row)
    assert max_lr / 2 < highest <= max_lr


@pytest.mark.parametrize(
    ("min_lr", "max_lr", "why", "overrides"),
    [
        ("1e3", "1e6", "no proposal: the run diverged after", "try again with: scheduler.min_lr=1"),
        ("1e-8", "1e-6", "never falls by 10% of its start", "try again with: scheduler.max_lr=9.8e-5"),
    ],
)
def test_a_range_without_a_proposal(train: Train, min_lr: str, max_lr: str, why: str, overrides: str) -> None:
    trained = train(*TEST, f"scheduler.min_lr={min_lr}", f"scheduler.max_lr={max_lr}", small=())
    result = analyse(trained.folder)
    assert result.best is None
    assert json.loads(write_json(result).read_text(encoding="utf-8"))["proposal"] is None
    draw(result)
    assert why in text_of(result)
    assert overrides in text_of(result)


@pytest.mark.parametrize(("argv", "script"), [("lr_range.py", "lr_range.py"), ("tune.py", "train.py")])
def test_an_interrupted_run_is_resumed_by_the_script_that_can(
    argv: str, script: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """src/train.py would refuse the keys that conf/lr_range.yaml sets."""
    record = RunRecord(config={}, config_hash="", overrides=[], seed=0, status="interrupted", argv=[argv])
    print_results(record, Path("/logs/x"))
    assert capsys.readouterr().out.splitlines()[-1] == f"resume    python src/{script} resume=/logs/x"


def test_the_printed_overrides_can_be_pasted() -> None:
    """Hydra gives `=` and `,` a meaning, and the folders of sweeps contain both."""
    for path in (Path("/logs/runs/test"), Path("/logs/sweeps/wd,seed__model=mlp__3f")):
        parsed = OverridesParser.create().parse_overrides(shlex.split(overrides_to_use(path)))
        assert parsed[-1].value() == str(path)
        assert not parsed[-1].is_sweep_override()


def test_a_folder_of_other_runs(tmp_path: Path, train: Train) -> None:
    trained = train("trainer.epochs=1")
    with pytest.raises(UserError, match="contains no LR range test: its runs have no range_test schedule"):
        analyse(trained.folder)
    with pytest.raises(UserError, match="no run under"):
        analyse(tmp_path / "run" / "checkpoints")
