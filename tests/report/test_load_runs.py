"""Records and curves are found at any depth; what is damaged or missing is listed and loses no other run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tempo.errors import UserError
from tempo.paths import ROOT
from tempo.report.load_runs import load, read_curves
from tests.report.example_runs import HEADER, weight_decay_sweep, write_run, write_sweep

ACCURACIES = {1e-4: {0: 0.91, 1: 0.92}, 1e-5: {0: 0.90, 1: 0.905}}
JOBS = ["wd=0.0001,seed=0", "wd=0.0001,seed=1", "wd=1e-05,seed=0", "wd=1e-05,seed=1"]


def test_runs_are_found_at_any_depth_and_once(tmp_path: Path) -> None:
    weight_decay_sweep(tmp_path / "logs/stage one/wd", [1e-4, 1e-5], [0, 1], ACCURACIES)
    write_run(tmp_path / "logs/single")
    write_run(tmp_path / "logs/single/checkpoints/not_a_run")
    found = load([tmp_path, tmp_path / "logs/single"])
    assert sorted(run.folder.name for run in found.runs) == ["single", *JOBS]
    assert [sweep.keys for sweep in found.sweeps] == [("optimizer.wd", "seed")]
    assert not found.unreadable
    # A job that is named alone knows its sweep; the other jobs were not asked for.
    alone = load([tmp_path / "logs/stage one/wd/wd=1e-05,seed=1"])
    ((name, sweep),) = ((run.folder.name, run.sweep) for run in alone.runs)
    assert (name, sweep.keys if sweep else None) == ("wd=1e-05,seed=1", ("optimizer.wd", "seed"))
    assert not alone.unreadable


def test_damaged_and_missing_jobs_are_listed_with_their_command(tmp_path: Path) -> None:
    jobs = [(f"seed={seed}", [f"seed={seed}"]) for seed in range(4)]
    write_run(tmp_path / "seed=0")
    (tmp_path / "seed=1").mkdir()
    (tmp_path / "seed=1/run.json").write_text('{"schema_version": 2, "conf')
    (tmp_path / "seed=2/.hydra").mkdir(parents=True)  # killed before its record
    write_sweep(tmp_path, ["seed"], jobs)
    found = load([tmp_path])
    assert len(found.runs) == 1
    lost = {item.folder.name: item for item in found.unreadable}
    assert sorted(lost) == ["seed=1", "seed=2", "seed=3"]
    for name, words in (("seed=1", "not JSON"), ("seed=2", "run.json"), ("seed=3", "never started")):
        assert words in lost[name].why
        assert lost[name].command == f"python src/train.py model=resnet20 {name}"


@pytest.mark.parametrize("content", ["{", "[]", '{"command": [], "keys": "wd", "jobs": []}', '{"keys": []}'])
def test_a_damaged_sweep_file_loses_no_run(tmp_path: Path, content: str) -> None:
    write_run(tmp_path / "a")
    (tmp_path / "sweep.json").write_text(content)
    found = load([tmp_path])
    assert len(found.runs) == 1
    assert "sweep.json is damaged" in found.unreadable[0].why


@pytest.mark.parametrize("fields", [{"config": 3}, {"metrics": {"val": 0.5}}, {"epochs": None}])
def test_a_record_of_another_shape_is_listed(tmp_path: Path, fields: dict[str, Any]) -> None:
    write_run(tmp_path / "good")
    write_run(tmp_path / "bad")
    content = json.loads((tmp_path / "bad/run.json").read_text())
    (tmp_path / "bad/run.json").write_text(json.dumps({**content, **fields}))
    found = load([tmp_path])
    assert [run.folder.name for run in found.runs] == ["good"]
    (name,) = fields
    assert f"run.json has {name}=" in found.unreadable[0].why


def test_nothing_at_all_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run under"):
        load([tmp_path])
    with pytest.raises(UserError, match="is not a folder"):
        load([tmp_path, tmp_path / "absent"])


def test_the_command_keeps_what_the_sweep_shared_and_quotes(tmp_path: Path) -> None:
    write_sweep(tmp_path, ["seed"], [("seed=7", ["seed=7", "model.widths=[1, 2]"])])
    content = json.loads((tmp_path / "sweep.json").read_text())
    script = ["src/lr_range.py", "-m", "hydra/launcher=local"]
    content["command"] = [*script, "+data.x=3", "seed=1,7", "resume=/x"]
    (tmp_path / "sweep.json").write_text(json.dumps(content))
    (command,) = [lost.command for lost in load([tmp_path]).unreadable]
    assert command == "python src/lr_range.py +data.x=3 seed=7 'model.widths=[1, 2]'"


@pytest.mark.parametrize(
    ("began", "script"),
    [("train.py", "src/train.py"), ("lr_range.py", "src/lr_range.py"), ("tune.py", "src/train.py")],
)
def test_the_command_of_a_single_run_can_be_typed(tmp_path: Path, began: str, script: str) -> None:
    """A record has the bare name of its script; a run of the procedure is src/train.py with its overrides."""
    write_run(tmp_path / "run", overrides=["seed=1", "resume=x"], fields={"argv": [began, "seed=1"]})
    (run,) = load([tmp_path / "run"]).runs
    assert run.command == f"python {script} seed=1"
    assert (ROOT / script).is_file()


def test_a_damaged_row_of_metrics_costs_that_row_only(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(f"{HEADER}\n10,0.5,1,0.1,0.9,2.0,0.3,,\n10,0.5,1,,,,,2.1,0.25\n20,1.0,2,0.1,0.9,1.0,0.6")
    np.testing.assert_array_equal(read_curves(path)["step"], [10, 10])
    np.testing.assert_array_equal(read_curves(path)["val/accuracy"], [np.nan, 0.25])
    path.write_text("step,epoch,val/loss,extra\n1,0.1,2.0,3\n2,0.2,oops,3\n3,0.3,inf,\n4,0.4,1.5,\n")
    np.testing.assert_array_equal(read_curves(path)["val/loss"], [2.0, np.inf, 1.5])
    path.write_text("")
    assert read_curves(path) == read_curves(tmp_path / "absent.csv") == {}


def test_a_step_written_twice_by_a_resumed_run_counts_once(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    rows = ["1,0.5,1,,,,,2.0,0.2", "2,1.0,2,,,,,1.0,0.5", "2,1.0,3,,,,,0.9,0.6", "3,1.5,4,,,,,nan,0.1"]
    (tmp_path / "a/metrics.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    (run,) = load([tmp_path]).runs
    x, y = run.series("val/loss")
    np.testing.assert_array_equal(x, [0.5, 1.0])
    np.testing.assert_array_equal(y, [2.0, 0.9])
    assert len(run.series("no such column")[0]) == 0


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"[]", b'{"command": 3}', b'{"jobs": [3], "command": [], "keys": []}', b"null"],
)
def test_a_damaged_file_of_a_sweep_loses_no_run(content: bytes, tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    (tmp_path / "sweep.json").write_bytes(content)
    found = load([tmp_path])
    assert [run.folder for run in found.runs] == [(tmp_path / "run").resolve()]
    assert "sweep.json is damaged" in found.unreadable[0].why
