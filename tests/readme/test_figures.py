"""The figures of README and docs are those of the committed records."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import shutil
import statistics
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tempo.record.run_json import RunRecord

ROOT = Path(__file__).resolve().parents[2]


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


figures = _load("figures")
collect = _load("collect")
pictures = _load("pictures")


@pytest.mark.parametrize("page", figures.pages(), ids=lambda page: page.name)
def test_every_figure_is_the_records(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert figures.rewrite(text) == text, "run python benchmarks/figures.py"


def test_the_readme_has_figures() -> None:
    assert len(figures.FIGURE.findall((ROOT / "README.md").read_text(encoding="utf-8"))) >= 5


def test_every_picture_has_a_command_that_draws_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = set()
    for page in figures.pages():
        for found in re.findall(r"!\[[^\]]*\]\((.+?)\)", page.read_text(encoding="utf-8")):
            shown.add((page.parent / found).resolve().relative_to(pictures.RESULTS).as_posix())
    # benchmarks/endurance.py and scaling_tables.py draw these where they write their records.
    shown -= {"endurance/growth.png", "scaling_emulated/efficiency.png"}
    known = {*pictures.PICTURES, *pictures.SCREENS}
    assert shown == known, "a picture on a page stands in PICTURES or SCREENS, and the other way round"
    assert [name for name in known if not (pictures.RESULTS / name).is_file()] == []
    for study in ("network", "stem", "whole"):
        shutil.copytree(pictures.RESULTS / "frugal" / study, tmp_path / "frugal" / study)
    monkeypatch.setattr(pictures, "RESULTS", tmp_path)
    drawn = pictures.picture("frugal/trade_off.png")
    assert drawn.read_bytes().startswith(b"\x89PNG")


def test_mean_and_sd_are_cut_against_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accuracies = [0.98761, 0.99123, 0.98333]
    for seed, accuracy in enumerate(accuracies):
        (tmp_path / "study" / f"seed={seed}").mkdir(parents=True)
        record = {
            "metrics": {"test": {"accuracy": accuracy}},
            "seconds": {"total": 10.2 + seed},
            "device": "CPU",
        }
        (tmp_path / "study" / f"seed={seed}" / "run.json").write_text(json.dumps(record))
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    percent = [100 * each for each in accuracies]
    mean, sd = statistics.fmean(percent), statistics.stdev(percent)
    shown = figures.figure("study", "metrics.test.accuracy")
    left, _, right = shown.removesuffix(" %").partition(" ± ")
    assert mean - 0.01 < float(left) <= mean
    assert sd <= float(right) < sd + 0.01
    assert figures.figure("study", "max seconds.total") == str(math.ceil(12.2))
    assert figures.figure("study", "n") == "3"
    assert figures.figure("study", "device") == "CPU"


def test_a_figure_without_a_record_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    with pytest.raises(FileNotFoundError):
        figures.figure("missing", "n")


def test_paths_become_relative() -> None:
    argv = [f"hydra.run.dir={ROOT}/logs/x"]
    text = json.dumps({"root": f"{ROOT}/data", "argv": argv, "images": f"{ROOT.parent}/photos"})
    written = collect.portable(text)
    assert str(ROOT) not in written
    assert json.loads(written)["argv"] == ["hydra.run.dir=./logs/x"]
    assert json.loads(written)["images"] == "../photos"
    assert collect.portable(f"\"resume='{ROOT}/logs/x'\"") == "\"resume='./logs/x'\""


def test_no_record_names_a_place_on_somebodys_machine() -> None:
    records = [each for each in (ROOT / "docs" / "results").rglob("*") if each.suffix in (".json", ".csv")]
    assert records
    named = [
        (path.name, found)
        for path in records
        for found in re.findall(r"""["'=,](/\w[^"']*)""", path.read_text(encoding="utf-8"))
    ]
    assert not named


def test_a_difference_is_paired_over_the_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for study, accuracies in (("a/x", [0.60, 0.62, 0.64]), ("a/y", [0.59, 0.60, 0.61])):
        for seed, accuracy in enumerate(accuracies):
            folder = tmp_path / study / f"seed={seed}"
            folder.mkdir(parents=True)
            record = {"seed": seed, "metrics": {"test": {"accuracy": accuracy}}}
            (folder / "run.json").write_text(json.dumps(record))
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    # Differences 1, 2, 3: mean 2, sd 1; t(2) = 4.3027 / sqrt(3) = 2.4842, said as no less.
    assert figures.figure("a/x", "minus a/y metrics.test.accuracy") == "+2.00 ± 2.49"
    assert figures.figure("a/y", "minus a/x metrics.test.accuracy") == "-2.00 ± 2.49"
    assert figures.figure("a/x", "verdict a/y metrics.test.accuracy") == "not distinguishable from"
    for seed in range(3):
        path = tmp_path / "a/x" / f"seed={seed}" / "run.json"
        path.write_text(path.read_text().replace("0.6", "0.9"))
    assert figures.figure("a/x", "verdict a/y metrics.test.accuracy") == "higher than"
    assert figures.figure("a/y", "verdict a/x metrics.test.accuracy") == "lower than"


def test_a_difference_that_only_the_95_percent_interval_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Differences 2, 3, 4: mean 3, sd 1; t(2) / sqrt(3) is 2.48 at 95 % and 5.73 at 99 %."""
    for study, accuracies in (("a/x", [0.60, 0.62, 0.64]), ("a/y", [0.58, 0.59, 0.60])):
        for seed, accuracy in enumerate(accuracies):
            folder = tmp_path / study / f"seed={seed}"
            folder.mkdir(parents=True)
            record = {"seed": seed, "metrics": {"test": {"accuracy": accuracy}}}
            (folder / "run.json").write_text(json.dumps(record))
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    assert figures.figure("a/x", "verdict a/y metrics.test.accuracy") == "perhaps higher than"
    assert figures.figure("a/y", "verdict a/x metrics.test.accuracy") == "perhaps lower than"


def test_quantities_by_seed_and_the_cost_of_a_procedure() -> None:
    """Of the committed records, read by eye from metrics.csv."""
    assert figures.figure("mnist2024/adam", "each epochs to test/accuracy=0.975") == "5, 8, 5"
    assert figures.figure("mnist2024/sgd", "each epochs to test/accuracy=0.975") == "> 20, > 20, > 20"
    assert figures.figure("mnist2024/rmsprop", "each drops test/accuracy") == "2.23, 2.07, 1.38"
    state = json.loads((figures.RESULTS / "tune_digits" / "tune.json").read_text(encoding="utf-8"))
    assert figures.figure("tune_digits", "cost").startswith(f"{math.ceil(state['epochs'])} epochs in ")


def test_epochs_to_the_same_accuracy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Means a: 0.5, 0.75, 0.8; b: 0.4, 0.7, 0.6. The row of a training interval has no validation."""
    curves = {"a/0": (0.4, 0.7, 0.8), "a/1": (0.6, 0.8, 0.8), "b/0": (0.4, 0.7, 0.6), "b/1": (0.4, 0.7, 0.6)}
    for run, values in curves.items():
        (tmp_path / run).mkdir(parents=True)
        rows = "".join(f"{n},{n}.0,{value}\n" for n, value in enumerate(values, start=1))
        (tmp_path / run / "metrics.csv").write_text(f"step,epoch,val/accuracy\n1,0.5,\n{rows}")
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    assert figures.figure("a", "epochs_to b") == "2"
    assert figures.figure("b", "epochs_to_own_best") == "2"
    assert figures.figure("b", "epochs_to a") == "never"


def test_what_a_study_ended_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tune_x").mkdir()
    (tmp_path / "tune_x" / "tune.json").write_text('{"comparison": {"verdict": {"chosen": "default"}}}')
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    assert figures.figure("tune_x", "kept") == "default"


def test_of_a_study_the_full_runs_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = tmp_path / "study"
    for run in ("range_test", "final_tuned_seed0", "final_default_seed0"):
        (study / run).mkdir(parents=True)
        RunRecord(config={}, config_hash="", overrides=[], seed=0, status="completed").write(study / run)
    (study / "tune.json").write_text("{}")
    monkeypatch.setattr(collect, "RESULTS", tmp_path / "results")
    assert collect.collect("tune_x", [study]) == 2
    kept = {str(path.relative_to(tmp_path / "results")) for path in (tmp_path / "results").rglob("*.json")}
    arms = {f"tune_x/{arm}/final_{arm}_seed0/run.json" for arm in ("tuned", "default")}
    assert kept == {"tune_x/tune.json", *arms}


def test_steps_and_seconds_to_a_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    curves = {0: [0.3, 0.6, 0.4], 1: [0.3, 0.49, 0.5], 2: [0.1, 0.2, 0.3]}
    for seed, accuracies in curves.items():
        (tmp_path / "study" / str(seed)).mkdir(parents=True)
        rows = [f"{10 * n + 5},{n}.1,\n{10 * n + 10},{n}.5,{each}\n" for n, each in enumerate(accuracies)]
        text = "step,seconds,val/accuracy\n" + "".join(rows)
        (tmp_path / "study" / str(seed) / "metrics.csv").write_text(text)
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    # Steps 20 and 30: mean 25, sd 7.07; seconds 1.5 and 2.5: mean 2, sd 0.71; rounded against us.
    assert figures.figure("study", "steps_to val/accuracy=0.5") == "25 ± 8 (2 of 3 runs)"
    assert figures.figure("study", "seconds_to val/accuracy=0.5") == "2 ± 1 (2 of 3 runs)"
    assert figures.figure("study", "steps_to val/accuracy=0.3") == "17 ± 12"
    assert figures.figure("study", "steps_to val/accuracy=0.7") == "never"


def test_interactions_are_differences_of_corner_means() -> None:
    interactions = _load("interactions")
    accuracy = np.random.default_rng(0).normal(size=(3, 3, 3, 3))
    found = interactions.Grid(accuracy, ((1.0, 2.0, 3.0),) * 3).interaction(2, 0)
    by_seed = []
    for seed in range(3):
        corner = {
            (momentum, decay): statistics.fmean(accuracy[decay, lr, momentum, seed] for lr in range(3))
            for momentum in (0, 2)
            for decay in (0, 2)
        }
        by_seed.append(corner[2, 2] - corner[0, 2] - corner[2, 0] + corner[0, 0])
    assert found.mean == pytest.approx(statistics.fmean(by_seed))
    assert found.sd == pytest.approx(statistics.stdev(by_seed))
