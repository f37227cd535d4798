"""The whole procedure on a small network, killed and resumed, and its tuned.yaml."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

from tempo.record.run_json import RunRecord
from tempo.run.evaluate import evaluate_unused
from tests.script_process import Ended, ScriptProcess, run_script

SMALL = (
    "model=mlp",
    "trainer=cpu",
    "trainer.threads=1",
    "trainer.epochs=3",
    "data.total_batch_size=32",
    "tune.compare_seeds=2",
    "tune.range_steps=200",
    "tune.short_seeds=1",
    "tune.momenta=[0.9]",
    "tune.weight_decays=[1e-3,1e-4]",
    "tune.batch_sizes=[32]",
    "tune.budget_minutes=30",  # more than enough: a plan in minutes runs more of the code
)


def run(script: str, *arguments: str) -> Ended:
    return run_script(script, *arguments, environment={"COLUMNS": "200"})


def runs_below(folder: Path) -> dict[str, str]:
    """Finished run -> when its record was written."""
    return {
        str(path.parent.relative_to(folder)): str(path.stat().st_mtime)
        for path in sorted(folder.rglob("run.json"))
        if RunRecord.read(path.parent).finished
    }


def _check_that_what_chooses_does_not_report(folder: Path, state: dict[str, Any]) -> None:
    """The digits have 1,438 training images: 144 validate, 144 are left for the verdict."""
    records = {path.parent.name: RunRecord.read(path.parent) for path in folder.glob("*/run.json")}
    choosing = {record.seed for name, record in records.items() if not name.startswith(("final", "speed"))}
    reporting = {record.seed for name, record in records.items() if name.startswith("final")}
    assert (choosing, reporting) == ({2}, {0, 1})
    sizes = {(record.data["train"], record.data["val"]) for record in records.values()}
    assert sizes == {(1438 - 2 * 144, 144)}
    judged = state["comparison"]["verdict"]
    assert " on 144 images that chose nothing, " in judged["why"]
    again = evaluate_unused(folder / "final_tuned_seed0", 1000)
    assert again["images"] == 144
    assert f"{again['loss']:.4f}" in judged["evidence"]["tuned"]


def test_killed_it_is_resumed_and_ends_in_a_setting_that_runs(tmp_path: Path) -> None:
    folder = tmp_path / "procedure"
    started = ScriptProcess("tune.py", *SMALL, f"hydra.run.dir={folder}")
    deadline = time.monotonic() + 120
    while not any(folder.glob("weight_decay*")) and started.is_alive() and time.monotonic() < deadline:
        time.sleep(0.005)
    started.kill()
    started.finish()
    before = runs_below(folder)
    assert {"range_test", "momentum_momentum_0.9_seed2"} <= before.keys()

    spent = json.loads((folder / "tune.json").read_text(encoding="utf-8"))["seconds"]
    began = time.monotonic()
    result = run("tune.py", *SMALL, f"hydra.run.dir={folder}")
    assert result.code == 0, result.err
    took = time.monotonic() - began
    assert result.out.index("plan      range test 5.71 epochs") < result.out.index("stage     LR range")
    assert "budget    30 min 0 s" in result.out
    assert "speed     " not in result.out, "the plan of the first call is kept"
    after = runs_below(folder)
    assert {name: after[name] for name in before} == before, "a finished run was repeated"
    assert {f"final_{which}_seed{seed}" for which in ("tuned", "default") for seed in (0, 1)} <= after.keys()
    state = json.loads((folder / "tune.json").read_text(encoding="utf-8"))
    assert [choice["stage"] for choice in state["choices"]] == [
        "learning rate",
        "batch size",
        "momentum",
        "weight decay",
    ]
    assert all(choice["evidence"] for choice in state["choices"])
    assert spent < state["seconds"] < spent + took + 30
    assert state["comparison"]["verdict"]["stage"] == "tuned or default"
    assert state["epochs"] <= 20 / 35 + 200 / 35 + 6 * 2 + 4 * 3 + 1
    for stage in ("LR range test", "learning rate", "momentum", "weight decay", "batch size", "final run"):
        assert f"stage     {stage}" in result.out
    assert "95 % interval, paired over common seeds, n = 2" in result.out
    assert "tuned: test accuracy" in result.out
    assert re.search(r"\nrun (\d+) of \1 final_default_seed1 completed val/accuracy .* %", result.out)
    assert re.search(r"\nkept      (tuned|default), by its loss on images that no run has used", result.out)
    assert "choice    tuned or default: " in result.out
    _check_that_what_chooses_does_not_report(folder, state)
    cost = re.search(r"cost      (.+), of 30 min 0 s", result.out)
    assert cost is not None
    assert f"; the whole procedure took {cost[1].rpartition(', ')[0]}" in result.out
    assert f"# whole cost: {cost[1].rpartition(', ')[0]}" in (folder / "experiment/tuned.yaml").read_text()
    assert (folder / "report" / "report.html").is_file()

    # The printed command, as printed: the same configuration, so the same result.
    tuned = run(
        "train.py", "--config-dir", str(folder), "experiment=tuned", f"hydra.run.dir={tmp_path / 'again'}"
    )
    assert tuned.code == 0, tuned.err
    which = "default" if "tuned or default: default" in result.out else "tuned"
    again, first = RunRecord.read(tmp_path / "again"), RunRecord.read(folder / f"final_{which}_seed0")
    differing = {key for key in first.config if again.config[key] != first.config[key]}
    assert differing <= {"experiment"}
    assert again.weights_sha256 == first.weights_sha256
