"""The script itself: a run, a sweep, their files, and what it says when it cannot work."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from lr_range import epochs_count
from tempo.errors import UserError
from tempo.paths import ROOT
from tempo.record.run_json import RunRecord
from tempo.report.number_format import SMOKE
from tempo.trainer.console import print_results
from tempo.tuning.range_figure import draw
from tempo.tuning.range_test import analyse, text_of, use_it, write_json
from tests.conftest import Train

SCRIPT = ROOT / "src" / "lr_range.py"
TEST = (
    "model=mlp",
    "trainer=cpu",
    "trainer.threads=1",
    "scheduler=range_test",
    "trainer.max_steps=200",
    "trainer.log_every_n_steps=1",
    "divergence.factor=4",
)


def lr_range(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script as a user does."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    command = [sys.executable, str(SCRIPT), "trainer=cpu", "trainer.threads=1", "model=mlp", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=300, stdin=subprocess.DEVNULL
    )


def test_a_sweep_is_one_proposal_a_setting(tmp_path: Path) -> None:
    swept = ["-m", "optimizer.momentum=0.9,0.0", "seed=0,1", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    result = lr_range(*swept, "trainer.max_steps=150")
    assert result.returncode == 0, result.stderr
    content = json.loads((tmp_path / "sweep" / "lr_range.json").read_text(encoding="utf-8"))
    assert [each["label"] for each in content["settings"]] == ["momentum=0", "momentum=0.9"]
    without, with_momentum = content["settings"]
    assert without["seeds"] == with_momentum["seeds"] == [0, 1]
    for setting in content["settings"]:
        bounds, points = setting["proposal"], setting["points"]
        assert bounds["min_lr"] == pytest.approx(bounds["max_lr"] / 10, rel=0.1)
        assert bounds["max_lr"] <= points["edge"] / 4
        assert all((tmp_path / "sweep" / run / "metrics.csv").is_file() for run in setting["runs"])
        assert setting["label"] in result.stdout
    # Momentum m takes steps 1 / (1 - m) times as long: its edge comes earlier.
    assert with_momentum["points"]["edge"] < without["points"]["edge"]
    assert "max_lr of the single seeds" in result.stdout
    assert (tmp_path / "sweep" / "lr_range.png").stat().st_size > 10_000
    again = lr_range(*swept, "trainer.max_steps=150")
    assert "4 finished before" in again.stdout
    assert json.loads((tmp_path / "sweep" / "lr_range.json").read_text(encoding="utf-8")) == content


def test_another_schedule_is_refused(tmp_path: Path) -> None:
    result = lr_range("scheduler=onecycle", f"hydra.run.dir={tmp_path / 'run'}")
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "src/lr_range.py needs the rising learning rate of scheduler=range_test: leave scheduler=... "
        "out, or run src/train.py"
    ]


def test_another_schedule_is_refused_before_the_first_job_of_a_sweep(tmp_path: Path) -> None:
    result = lr_range("-m", "scheduler=range_test,onecycle", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert result.returncode == 1
    assert result.stderr.startswith("scheduler=onecycle: src/lr_range.py needs the rising learning rate")
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "sweep").exists()


def test_a_smoke_test_says_so_in_every_output(tmp_path: Path, train: Train) -> None:
    trained = train(*TEST, "scale=smoke", small=())
    result = analyse(trained.folder)
    assert text_of(result).splitlines()[0] == f"*** {SMOKE} ***"
    assert json.loads(write_json(result).read_text(encoding="utf-8"))["label"] == SMOKE
    assert SMOKE in draw(result).with_suffix(".svg").read_text(encoding="utf-8")


def test_epochs_count_wherever_the_flags_stand() -> None:
    steps, epochs = "trainer.max_steps=null", "trainer.epochs=3"
    assert epochs_count([epochs, "--cfg", "job"]) == [steps, epochs, "--cfg", "job"]
    assert epochs_count(["--cfg", "job", epochs]) == ["--cfg", "job", steps, epochs]
    assert epochs_count(["seed=1", "-m"]) == ["seed=1", "-m"]
    assert epochs_count([epochs, "trainer.max_steps=9"]) == [epochs, "trainer.max_steps=9"]
    result = lr_range(epochs, "--cfg", "job")
    assert result.returncode == 0, result.stderr
    assert "max_steps: null" in result.stdout


def test_a_run_and_its_files(tmp_path: Path, train: Train) -> None:
    trained = train(*TEST, small=())
    assert trained.record.status in ("completed", "diverged")
    result = analyse(trained.folder)
    best = result.best
    assert best is not None
    points = best.proposal.points
    assert points is not None
    assert points.falls_at < points.minimum
    assert points.edge is not None
    assert best.proposal.max_lr is not None
    assert best.proposal.max_lr < points.edge
    path = write_json(result)
    assert path == trained.folder / "lr_range.json"
    assert draw(result).is_file()
    assert "max_lr" in text_of(result)
    assert not any(SMOKE in path.read_text() for path in (path, path.with_suffix(".svg")))
    assert SMOKE not in text_of(result)

    onecycle = ["scheduler=onecycle", "scheduler.max_lr=auto", f"scheduler.range_test={path}"]
    cycle = train("model=mlp", "trainer=cpu", "trainer.epochs=2", *onecycle, folder="cycle", small=())
    assert cycle.record.status == "completed"
    assert cycle.record.config["scheduler"]["max_lr"] == best.proposal.max_lr
    highest = max(row["lr"] for row in cycle.rows() if "lr" in row)
    assert best.proposal.max_lr / 2 < highest <= best.proposal.max_lr


@pytest.mark.parametrize(("argv", "script"), [("lr_range.py", "lr_range.py"), ("tune.py", "train.py")])
def test_what_was_stopped_goes_on_by_the_script_that_can(
    argv: str, script: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """src/train.py would refuse a range test: the keys of conf/lr_range.yaml are not its own."""
    record = RunRecord(config={}, config_hash="", overrides=[], seed=0, status="interrupted", argv=[argv])
    print_results(record, Path("/logs/x"))
    assert capsys.readouterr().out.splitlines()[-1] == f"resume    python src/{script} resume=/logs/x"


def test_too_large_from_the_start(tmp_path: Path, train: Train) -> None:
    trained = train(*TEST, "scheduler.min_lr=1e3", "scheduler.max_lr=1e6", small=())
    assert trained.record.status == "diverged"
    result = analyse(trained.folder)
    assert result.best is None
    write_json(result)
    draw(result)
    assert "go on with: scheduler.min_lr=1" in text_of(result)


def test_too_small_to_the_end(tmp_path: Path, train: Train) -> None:
    trained = train(*TEST, "scheduler.min_lr=1e-8", "scheduler.max_lr=1e-6", small=())
    said = text_of(analyse(trained.folder))
    assert "no proposal: the loss never falls by 10% of its start" in said
    assert "go on with: scheduler.max_lr=9.8e-5" in said


def test_the_line_that_uses_it_can_be_typed() -> None:
    """Hydra gives `=` and `,` a meaning, and the folders of sweeps have both."""
    plain_path, sweep = Path("/logs/runs/test"), Path("/logs/sweeps/wd,seed__model=mlp__3f")
    assert use_it(plain_path).endswith("scheduler.range_test=/logs/runs/test")
    for path in (plain_path, sweep):
        words = shlex.split(use_it(path))
        parsed = OverridesParser.create().parse_overrides(words)
        assert parsed[-1].value() == str(path)
        assert not parsed[-1].is_sweep_override()


def test_a_folder_of_other_runs(tmp_path: Path, train: Train) -> None:
    trained = train("trainer.epochs=1")
    with pytest.raises(UserError, match="holds no LR range test"):
        analyse(trained.folder)
    with pytest.raises(UserError, match="no run under"):
        analyse(tmp_path / "run" / "checkpoints")
