"""A project outside the checkout: its own package and conf/, from sweep to reproduction, by the scripts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tempo.errors import UserError
from tempo.paths import PROJECT, ROOT
from tempo.record.foreign_folder import check_foreign_config
from tests.jobs import checked_job
from tests.script_process import Ended, run_script

SHORT = ["experiment=diabetes", "trainer=cpu", "trainer.threads=1", "trainer.epochs=2"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of examples/tabular_regression whose class has another name."""
    folder = tmp_path / "project"
    shutil.copytree(
        ROOT / "examples" / "tabular_regression", folder, ignore=shutil.ignore_patterns("logs", "__pycache__")
    )
    (folder / "tabular").rename(folder / "elsewhere")
    for path in (folder / "conf").rglob("*.yaml"):
        path.write_text(path.read_text().replace("tabular.", "elsewhere."))
    return folder


def script(project: Path | None, name: str, *arguments: str) -> Ended:
    return run_script(name, *arguments, environment={PROJECT: str(project or "")})


def record_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())


def test_trains_sweeps_resumes_evaluates_and_reproduces(project: Path) -> None:
    logs = project / "logs"
    sweep = ["-m", *SHORT, "optimizer.lr=0.001,0.01"]
    ended = script(project, "train.py", *sweep)
    assert ended.code == 0, ended.err
    runs = sorted(logs.glob("sweeps/*/*/run.json"))
    assert len(runs) == 2
    assert script(project, "train.py", *sweep).code == 0
    assert sorted(logs.glob("sweeps/*/*/run.json")) == runs

    run = runs[0].parent
    assert record_of(run)["environment"]["project"]["sources_sha256"]
    # As after a kill at the end of the first epoch.
    shutil.copytree(run, killed := project / "logs" / "killed")
    record = record_of(killed)
    (killed / "run.json").write_text(json.dumps({**record, "status": "running"}))
    ended = script(project, "train.py", f"resume={killed}")
    assert ended.code == 0, ended.err
    assert record_of(killed)["weights_sha256"] == record["weights_sha256"]

    ended = script(project, "evaluate.py", str(run), "accelerator=cpu")
    assert "(the record's numbers)" in ended.out, ended.err
    ended = script(None, "evaluate.py", str(run), "accelerator=cpu")
    assert ended.code == 1
    assert "is not named in conf/data/*.yaml" in ended.err
    assert f"set {PROJECT}=<folder of the project>" in ended.err
    ended = script(project, "reproduce.py", str(run))
    assert ended.code == 0, ended.err
    assert "identical" in ended.out
    assert list(logs.glob("reproductions/*/run.json"))


def test_a_folder_without_conf_is_refused_in_one_line(tmp_path: Path) -> None:
    ended = script(tmp_path, "train.py")
    assert (ended.code, ended.err.strip()) == (
        1,
        f"{PROJECT}={tmp_path} has no folder conf/; set it to the folder of your project, or unset {PROJECT}",
    )


def test_an_unknown_option_names_those_of_the_project(project: Path) -> None:
    ended = script(project, "train.py", "model=regresion")
    assert "Did you mean 'regression'" in ended.err


def test_a_file_of_the_project_hides_one_of_tempo(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "conf" / "optimizer").mkdir()
    (project / "conf" / "optimizer" / "adam.yaml").write_text("_target_: torch.optim.Adam\nlr: 0.5\n")
    monkeypatch.setenv(PROJECT, str(project))
    config, _ = checked_job(["optimizer=adam"])
    assert config.optimizer.node["lr"] == 0.5


NESTED = """
_target_: elsewhere.diabetes.Regression
parts:
- _target_: elsewhere.parts.Part
  width: 3
lookup:
  _target_: hydra.utils.get_method
  path: torch.relu
"""


@pytest.mark.parametrize(
    ("changes", "is_accepted"),
    [
        ({}, True),
        ({"parts": [{"_target_": "elsewhere.parts.Part", "width": 4}]}, True),
        ({"parts": [{"_target_": "elsewhere.parts.Other"}]}, False),
        ({"parts": [{"_target_": "torch.nn.ReLU"}]}, True),
        ({"optimizer": {"_target_": "torch.optim.lr_scheduler.StepLR", "_partial_": True}}, True),
        ({"other": {"_target_": "elsewhere.parts.Part"}}, False),
        ({"lookup": {"_target_": "hydra.utils.get_method", "path": "os.system"}}, False),
        ({"parts": [{"_target_": "torch.load"}]}, False),
    ],
)
def test_only_nested_code_that_conf_names_is_run(
    changes: dict[str, Any], is_accepted: bool, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "conf" / "model" / "nested.yaml").write_text(NESTED)
    monkeypatch.setenv(PROJECT, str(project))
    model = {
        "_target_": "elsewhere.diabetes.Regression",
        "parts": [{"_target_": "elsewhere.parts.Part", "width": 3}],
        "lookup": {"_target_": "hydra.utils.get_method", "path": "torch.relu"},
    }
    if is_accepted:
        check_foreign_config({"model": model | changes})
    else:
        with pytest.raises(UserError, match="is not named in conf/model"):
            check_foreign_config({"model": model | changes})
