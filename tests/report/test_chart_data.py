"""The values behind the charts, and the libraries that draw them."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np

from tempo.paths import ROOT
from tempo.report.chart_data import chart_data, curves_of, json_block, progress_of
from tempo.report.load_runs import load
from tempo.report.statistics import summarise
from tests.report.example_runs import weight_decay_sweep, write_run

LIBRARIES = ROOT / "src/tempo/report/chart_library"


def test_the_libraries_are_those_of_versions_json_with_their_licenses() -> None:
    for name, library in json.loads((LIBRARIES / "versions.json").read_text()).items():
        content = (LIBRARIES / f"{name}.min.js").read_bytes()
        assert hashlib.sha256(content).hexdigest() == library["sha256"], "run `make charts`"
        assert f"v{library['version']} ".encode() in content[:100]
        assert "Permission to use, copy" in (LIBRARIES / f"{name}.LICENSE").read_text()


def test_the_runs_are_ranked_and_have_keys_metrics_and_curves(tmp_path: Path) -> None:
    weight_decay_sweep(tmp_path, [0.0, 1e-4], [0, 1], {0.0: {0: 0.7, 1: 0.8}, 1e-4: {0: 0.9, 1: 0.95}})
    data = chart_data(summarise(load([tmp_path]).runs), lambda folder: folder.name, images=True)
    assert data["settings"] == ["wd=1e-4", "wd=0"]
    assert data["metric"] == "val/accuracy"
    assert [(key["name"], key["tells"]) for key in data["keys"]] == [("wd", True)]
    assert [(run["setting"], run["values"], run["seed"]) for run in data["runs"]] == [
        (0, [1e-4], 0), (0, [1e-4], 1), (1, [0], 0), (1, [0], 1)
    ]  # fmt: skip
    assert data["runs"][1]["metrics"]["val/accuracy"] == 0.95
    assert data["curves"][:2] == ["val/loss", "val/accuracy"]
    assert data["larger_is_better"] == {
        name: "accuracy" in name or name in ("lr", "momentum") for name in data["titles"]
    }


def test_curves_are_thinned_with_both_ends_and_the_later_row_of_a_step(tmp_path: Path) -> None:
    write_run(tmp_path / "a", rows=50)
    with (tmp_path / "a/metrics.csv").open("a") as file:
        file.write("500,5,21,,,,,0.125,0.75\n")
    (run,) = load([tmp_path]).runs
    found = {name: (rows["x"]["step"], y) for rows in curves_of(run, 11) for name, y in rows["y"].items()}
    steps, values = found["val/accuracy"]
    assert len(steps) == 11
    assert (steps[0], steps[-1], values[-1]) == (10, 500, 0.75)
    whole = dict(zip(*run.series("val/accuracy", "step"), strict=True))
    np.testing.assert_allclose(values, [whole[step] for step in steps], rtol=1e-5)


def test_numbers_that_are_not_finite_and_text_that_ends_a_script_stay_json(tmp_path: Path) -> None:
    fields = {"metrics": {"val": {"loss": math.inf, "accuracy": math.nan}}}
    write_run(
        tmp_path / "a", model__variant="</script><!--", name="<b>", fields=fields, optimizer__wd=math.nan
    )
    write_run(tmp_path / "b", model__variant=[1, "<i>"])
    data = chart_data(summarise(load([tmp_path]).runs), lambda folder: folder.name, images=True)
    block = json_block(data)
    assert "<" not in block
    assert json.loads(block) == data
    assert {run["metrics"].get("val/loss") for run in data["runs"]} > {None}


def test_progress_is_the_share_of_planned_steps_or_epochs(tmp_path: Path) -> None:
    write_run(tmp_path / "epochs", status="running", trainer__epochs=20, fields={"epochs": 1.0})
    write_run(tmp_path / "steps", status="running", trainer__max_steps=2000)
    shares = {run.folder.name: progress_of(run) for run in load([tmp_path]).runs}
    assert shares == {"epochs": 0.25, "steps": 0.25}
