"""The part of a report about a search."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tempo.record.run_json import SWEEP_FILE, RunRecord
from tempo.report.load_runs import load
from tempo.report.search_figures import best_so_far, importance, slices
from tempo.report.search_trials import Search, searches_of, trials_table
from tempo.report.write_report import build_report
from tests.report.example_runs import screen_text

ENDS = [("completed", 0.5), ("pruned", None), ("completed", 0.75), ("diverged", None), ("completed", 0.7)]


def write_search(folder: Path, mode: str = "max", **changes: Any) -> None:
    """Write five trials of optimizer.lr (a log interval), optimizer (a group) and data.val_size (numbers)."""
    trials, jobs = [], []
    for number, (status, value) in enumerate(ENDS):
        group = "adam" if number % 2 else "sgd"
        values = {"optimizer.lr": 10.0**-number, "optimizer": group, "data.val_size": number % 3}
        name = f"lr=1e-{number}"
        overrides = ["model=mlp", *(f"{key}={value}" for key, value in values.items())]
        config = {"objective": "val/accuracy", "optimizer": {"lr": values["optimizer.lr"]}, "seed": 0}
        record = RunRecord(config=config, config_hash=str(number), overrides=overrides, seed=0, status=status)
        record.metrics = {"val": {"accuracy": value}} if value is not None else {}
        (folder / name).mkdir(parents=True)
        record.write(folder / name)
        jobs.append({"slug": name, "overrides": overrides, "folder": name})
        trial = {"number": number, "folder": name, "status": status, "reason": "", "values": values}
        by_epoch = {"1": 0.125, "2": 0.25} if status != "diverged" else {}
        trials.append({**trial, "value": value, "by_epoch": by_epoch})
    space = {"optimizer.lr": "tag(log, interval(1e-5, 1))", "optimizer": "adam,sgd", "data.val_size": "0,1,2"}
    command = [
        "src/train.py",
        "-m",
        "hydra/sweeper=search",
        "model=mlp",
        f"optimizer.lr={space['optimizer.lr']}",
    ]
    (folder / SWEEP_FILE).write_text(json.dumps({"command": command, "keys": list(space), "jobs": jobs}))
    content = {
        "objective": "val/accuracy",
        "mode": mode,
        "sampler": "tpe",
        "pruner": "median",
        "space": space,
    }
    content |= {"log_axes": ["optimizer.lr"], "importance": {"optimizer": 0.25, "optimizer.lr": 0.75}}
    (folder / "search.json").write_text(json.dumps({**content, "trials": trials, **changes}))


def search_in(folder: Path) -> Search:
    (found,) = searches_of(load([folder]))
    return found


def test_the_best_trial_and_the_command_that_trains_it(tmp_path: Path) -> None:
    write_search(tmp_path)
    found = search_in(tmp_path)
    assert found.best is not None
    assert (found.best.number, found.best.value) == (2, 0.75)
    assert found.best_command == (
        "python src/train.py model=mlp optimizer.lr=0.01 optimizer=sgd data.val_size=2"
    )
    assert found.outcome == "5 trials by tpe with median: 3 completed, 1 pruned, 1 diverged."
    assert "trial 2, lr=0.01, optimizer=sgd, val_size=2, validation accuracy 75.00 %" in found.verdict
    assert found.shares == "optimizer.lr 75 %, optimizer 25 %"


def test_the_best_of_a_loss_is_the_smallest(tmp_path: Path) -> None:
    write_search(tmp_path, mode="min", objective="val/loss")
    found = search_in(tmp_path)
    assert found.best is not None
    assert found.best.number == 0
    assert found.best_so_far() == ([0, 2, 4], [0.5, 0.5, 0.5])


def test_the_best_so_far_never_falls(tmp_path: Path) -> None:
    write_search(tmp_path)
    assert search_in(tmp_path).best_so_far() == ([0, 2, 4], [0.5, 0.75, 0.75])


def test_every_trial_has_a_row(tmp_path: Path) -> None:
    write_search(tmp_path)
    table = trials_table(search_in(tmp_path))
    assert table.head == (
        "trial", "lr", "optimizer", "val_size", "status", "validation accuracy, %", "epochs", "folder",
    )  # fmt: skip
    assert table.best == 2
    assert [row[4].text for row in table.rows] == [status for status, _ in ENDS]
    assert table.rows[1][5].text == "25.00 (last reported)"
    assert table.rows[3][5].text == "—"
    assert table.rows[1][7].folder == tmp_path / "lr=1e-1"


def test_figures_show_every_trial(tmp_path: Path) -> None:
    write_search(tmp_path)
    found = search_in(tmp_path)
    progress = best_so_far(found)
    assert progress is not None
    drawn = {line.get_label(): list(line.get_xdata()) for line in progress.axes[0].lines}
    assert drawn == {
        "best so far": [0, 2, 4],
        "trial": [0, 2, 4],
        "stopped early": [1],
        "without a value": [3],
    }
    panels = slices(found)
    assert panels is not None
    assert [axes.get_xlabel() for axes in panels.axes] == ["optimizer.lr", "optimizer", "data.val_size"]
    assert panels.axes[0].get_xscale() == "log"
    points = panels.axes[0].collections[0].get_offsets()
    assert [(float(x), float(y)) for x, y in points] == [(1.0, 0.5), (0.01, 0.75), (1e-4, 0.7)]
    crosses, best = panels.axes[0].lines[-2:]
    assert list(crosses.get_xdata()) == [1e-3], "the diverged trial says where not to look"
    assert (list(best.get_xdata()), list(best.get_ydata())) == ([0.01], [0.75])
    bars = importance(found)
    assert bars is not None
    assert [bar.get_width() for bar in bars.axes[0].patches] == [75, 25]


def test_a_report_has_it_all(tmp_path: Path) -> None:
    write_search(tmp_path)
    page = build_report([tmp_path], tmp_path / "report").read_text(encoding="utf-8")
    text = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    for output in (page, text, screen_text(tmp_path)):
        assert "optimizer.lr=0.01 optimizer=sgd data.val_size=2" in output
        assert "5 trials by tpe with median" in output
    assert 'id="search"' in page
    names = {path.stem for path in (tmp_path / "report" / "figures").glob("search_*.png")}
    assert names == {"search_best_so_far", "search_importance", "search_slices"}
    others = {path.stem for path in (tmp_path / "report" / "figures").glob("*.png")} - names
    assert not {name for name in others if name.startswith(("final_", "heat_map"))}, "trials form no grid"


def test_a_search_without_a_result_is_told(tmp_path: Path) -> None:
    write_search(tmp_path)
    path = tmp_path / "search.json"
    values = json.loads(path.read_text())
    for trial in values["trials"]:
        trial["value"] = None
    path.write_text(json.dumps(values | {"importance": {}}))
    found = search_in(tmp_path)
    assert (found.best, found.best_command, found.verdict) == (None, "", "No trial was completed.")
    assert (best_so_far(found), slices(found), importance(found)) == (None, None, None)
    build_report([tmp_path], tmp_path / "report")


@pytest.mark.parametrize("text", ["{", "[]", '{"objective": 3}', '{"trials": [{}]}'])
def test_a_damaged_file_is_told_and_the_runs_count(tmp_path: Path, text: str) -> None:
    write_search(tmp_path)
    (tmp_path / "search.json").write_text(text)
    found = load([tmp_path])
    assert searches_of(found) == []
    assert "search.json is damaged" in found.unreadable[-1].why
    assert "search.json is damaged" in screen_text(tmp_path)


def test_text_of_another_user_is_only_shown(tmp_path: Path) -> None:
    write_search(tmp_path, sampler="<script>alert(1)</script>")
    path = tmp_path / "search.json"
    values = json.loads(path.read_text())
    values["trials"][2] |= {"folder": "../../../../etc", "status": "<img src=x>"}
    path.write_text(json.dumps(values))
    page = build_report([tmp_path], tmp_path / "report").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "<img src=x>" not in page
    assert search_in(tmp_path).trials[2].folder == tmp_path / "etc"
    assert math.isfinite(search_in(tmp_path).trials[2].value)
