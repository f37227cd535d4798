"""Folders that commit 06bb3c6 has left are read, tested, reproduced and gone on with, by the command line.

What they are, and where the numbers below come from: tests/records_06bb3c6/README.md.
"""

from __future__ import annotations

import csv
import importlib.metadata
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tempo.paths import ROOT
from tests.script_process import Ended, run_script

RECORDS = ROOT / "tests" / "records_06bb3c6"
TORCH, OPTUNA, CPU = "2.14.1", "5.0.0", "AMD EPYC, family 25, model 17"
COMPLETED = "276434fe59285a0aef5ae44a3b9e57505269e2d026ccc0bb3991d5c347f3e3bc"
# Of the same commands that were never stopped.
INTERRUPTED = "9270e4569e143216d551e5e88756dd9a791008b1d307cc80531eec02d1666c66"
SWEEPS_SECOND = "4f2a6a97978e93b40a470597e9308f9fefdd2b9756c69f47b8df6f199a6eab6b"
SEARCHES_THIRD = "5c1744e8c766eb044f41f6f20e7bbfb106677404f8a9e10145af8c4dc8d5adcd"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """All of them, where a test may write."""
    return Path(shutil.copytree(RECORDS, tmp_path / "records"))


def call(script: str, *arguments: str | Path) -> Ended:
    """A script as a user starts it, on the CPU."""
    name = script.removeprefix("src/")
    return run_script(name, *map(str, arguments), environment={"CUDA_VISIBLE_DEVICES": ""})


def done(*arguments: str | Path) -> str:
    """What a script prints that ends well."""
    found = call(*arguments)
    assert found.code == 0, found.out + found.err
    return found.out


def read(folder: Path, name: str = "run.json") -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def curves(folder: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv without what a clock wrote."""
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return [
            {key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)
        ]


def here_as_there() -> bool:
    """Whether bits are promised: the processor and torch are those of the records."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    keys = ("model name", "cpu family", "model")
    found = [re.search(rf"^{key}\s*: (.*)$", text, re.MULTILINE) for key in keys]
    name, family, model = (line[1] if line else "" for line in found)
    same_torch = importlib.metadata.version("torch").partition("+")[0] == TORCH
    return same_torch and "avx512f" in text and f"{name}, family {family}, model {model}" == CPU


def assert_ended(folder: Path, steps: int, weights: str) -> None:
    """A run that was cut is now completed, and where bits are promised as if it never was."""
    record = read(folder)
    assert (record["status"], record["steps"], record["n_evaluated"]) == ("completed", steps, 359)
    assert len(record["sessions"]) == 2
    if here_as_there():
        assert record["weights_sha256"] == weights


def test_a_completed_run_is_shown_and_tested(copy: Path) -> None:
    folder = copy / "completed"
    assert "37.88" in done("src/report.py", folder)
    assert (folder / "report" / "report.html").exists()
    said = done("src/evaluate.py", folder)
    assert read(folder, "evaluation.json")["weights_sha256"] == COMPLETED
    assert "359 test images" in said
    if here_as_there():
        assert "(the record's numbers)" in said


def test_a_completed_run_is_reproduced(copy: Path, tmp_path: Path) -> None:
    ended = call("src/reproduce.py", copy / "completed", f"out={tmp_path / 'again'}")
    said = ended.out + ended.err
    verdict, found = read(tmp_path / "again", "comparison.json"), read(tmp_path / "again")
    assert (found["status"], found["steps"]) == ("completed", 60)
    assert "weights SHA-256" in verdict["compared"]
    if here_as_there():
        assert (ended.code, verdict["verdict"]) == (0, "identical"), said
        assert found["weights_sha256"] == COMPLETED
    elif found["device"] == read(RECORDS / "completed")["device"]:  # a name that several processors have
        assert ended.code in (0, 3, 4), said
        assert found["metrics"]["test"]["loss"] == pytest.approx(1.8102, abs=0.05)
    else:
        assert ended.code in (0, 3), said


def test_an_interrupted_run_goes_on(copy: Path) -> None:
    folder = copy / "interrupted"
    assert (read(folder)["status"], read(folder)["steps"]) == ("interrupted", 18)
    before = curves(folder)
    done("src/train.py", f"resume={folder}")
    assert_ended(folder, 40, INTERRUPTED)
    assert curves(folder)[: len(before)] == before
    assert len(curves(folder)) == 40 + 4, "a row a step and one a validation"


def test_a_sweep_runs_what_is_missing(copy: Path) -> None:
    folder = copy / "sweep"
    kept = (folder / "lr=0.1" / "run.json").read_bytes()
    command = [
        word for word in read(folder, "sweep.json")["command"] if not word.startswith("hydra.sweep.dir")
    ]
    said = done(*command, f"hydra.sweep.dir={folder}")
    assert "2 jobs, 1 finished before, 1 to resume" in said
    assert (folder / "lr=0.1" / "run.json").read_bytes() == kept
    assert_ended(folder / "lr=0.01", 60, SWEEPS_SECOND)


def test_a_search_goes_on(copy: Path) -> None:
    pytest.importorskip("optuna", reason="Optuna is not installed: pip install -e '.[search]'")
    folder = copy / "search"
    kept = {path: path.read_bytes() for path in folder.glob("*/run.json")}
    before = read(folder, "search.json")["trials"]
    command = [
        word for word in read(folder, "sweep.json")["command"] if not word.startswith("hydra.sweep.dir")
    ]
    command[command.index("hydra.sweeper.n_trials=2")] = "hydra.sweeper.n_trials=3"
    said = done(*command, f"hydra.sweep.dir={folder}")
    assert "3 trials, 2 finished before" in said
    assert {path: path.read_bytes() for path in kept} == kept
    trials = read(folder, "search.json")["trials"]
    assert trials[:2] == before
    (third,) = [path.parent for path in folder.glob("*/run.json") if path not in kept]
    assert (trials[2]["folder"], trials[2]["status"]) == (third.name, "completed")
    if importlib.metadata.version("optuna") == OPTUNA:
        assert third.name == "lr=0.01339", "another point was drawn than in a search that was never stopped"
        if here_as_there():
            assert read(third)["weights_sha256"] == SEARCHES_THIRD
