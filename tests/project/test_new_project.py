"""`tempo new` writes a project that trains, and the wheel holds all that it needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import tempo
from tempo import paths
from tempo.command_line import tempo_command
from tempo.paths import PROJECT, ROOT, SCRIPTS
from tempo.project.new_project import requirement

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib


def test_a_new_project_trains_and_its_files_name_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "lab"
    tempo_command.main(["new", str(folder), "--package", "wine_lab"])
    assert f"cd {folder} && make demo && make test" in capsys.readouterr().out
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"Makefile", "README.md", ".gitignore", "wine_lab.yaml"}
    texts = [path.read_text(encoding="utf-8") + str(path.relative_to(folder)) for path in files]
    assert not [text for text in texts if "PACKAGE" in text or "REQUIREMENT" in text]
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["dependencies"] == [requirement()] == [f"tempo-experiments @ {ROOT.as_uri()}"]
    assert yaml.safe_load((folder / ".github/workflows/test.yml").read_text(encoding="utf-8"))["jobs"]

    monkeypatch.setenv(PROJECT, str(folder))
    monkeypatch.setattr(sys, "path", [*sys.path])
    trained = tempo.train(
        ["experiment=demo", "trainer.epochs=5", "trainer.threads=1", f"hydra.run.dir={tmp_path}/run"]
    )
    assert trained.record.metrics["test"]["accuracy"] > 0.6
    assert trained.record.environment["project"]["sources_sha256"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["lab", "--package", "3x"], "--package=3x is not a name of a package"),
        (["lab", "--package", "json"], "--package=json would hide another package"),
        (["."], "is not an empty folder; name a new one: tempo new <folder>"),
        ([], "write: tempo new <folder> --package <name>"),
    ],
)
def test_a_folder_or_name_that_cannot_be_is_refused(
    arguments: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    if arguments == ["."]:
        arguments = [".", "--package", "lab"]
    with pytest.raises(SystemExit, match=line):
        tempo_command.main(["new", *arguments])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_every_script_is_a_task_and_help_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert {name for name, _ in tempo_command.TASKS.values()} == {path.stem for path in SCRIPTS.glob("*.py")}
    tempo_command.main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert "  lr-range   Run an LR range test" in lines
    assert all(len(line.split()) > 2 for line in lines[2:])
    with pytest.raises(SystemExit, match=r"tran is not a task. Did you mean 'train'\?"):
        tempo_command.main(["tran"])


def test_the_project_is_the_nearest_folder_above(tmp_path: Path) -> None:
    (tmp_path / "lab" / "conf" / "model").mkdir(parents=True)
    assert paths.find_project(tmp_path / "lab" / "conf" / "model") is None
    (tmp_path / "lab" / "pyproject.toml").touch()
    assert paths.find_project(tmp_path / "lab" / "conf" / "model") == tmp_path / "lab"
    assert paths.find_project(tmp_path) is None
    assert paths.find_project(ROOT / "conf") is None


def test_the_wheel_holds_conf_and_scripts_and_works_without_a_checkout(tmp_path: Path) -> None:
    source, built = tmp_path / "source", tmp_path / "built"
    left_out = shutil.ignore_patterns("__pycache__", "*.egg-info", "local")
    for name in ("src", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=left_out)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    # What a wheel is made of, then one command on it, in one process.
    program = (
        "import os, runpy, sys\n"
        f"sys.argv = ['setup.py', '-q', 'build_py', '--build-lib', {str(built)!r}]\n"
        "runpy.run_path('setup.py')\n"
        f"os.chdir({str(tmp_path)!r})\n"
        f"sys.path.insert(0, {str(built)!r})\n"
        "from tempo.command_line.tempo_command import main\n"
        "main(['lr-range', 'scheduler=cosine'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=source,
        env={key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", PROJECT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stderr.splitlines()[-1] == (
        "tempo lr-range needs the rising learning rate of scheduler=range_test; leave scheduler=... out, or "
        "run tempo train"
    )

    def files(folder: Path) -> set[str]:
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}

    assert files(built / "tempo" / "conf") == {
        name for name in files(ROOT / "conf") if not name.startswith("local/")
    }
    own = {name for name in files(ROOT / "src" / "tempo") if "__pycache__" not in name}
    assert own <= files(built / "tempo")
    assert files(built / "tempo" / "scripts") == {path.name for path in SCRIPTS.glob("*.py")}
