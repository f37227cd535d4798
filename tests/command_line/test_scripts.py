"""Scripts as a user starts them, each in a process of its own; tests/bad_input has hundreds of commands."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tempo.command_line import check_before_run
from tempo.command_line.script import _line_of
from tempo.paths import ROOT
from tempo.record import run_folder
from tempo.record.run_json import RunRecord
from tests.jobs import SMALL

# Runs a script as `python src/<script>` does, and says at the end whether torch was imported.
PROGRAM = """
import runpy, sys
script, *sys.argv[1:] = sys.argv[1:]
sys.argv[0] = script
sys.path[0] = script.rpartition("/")[0]
try:
    runpy.run_path(script, run_name="__main__")
finally:
    print("torch" if "torch" in sys.modules else "no torch")
"""


def call(script: str, *arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(ROOT / "src" / script), *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        env={**kept, **environment},
        cwd=folder,
    )


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train.py model=densnet40", "Did you mean 'densenet40'?"),
        ("train.py model=mlp optimizer.lr=0.1,-1 -m", "optimizer.lr=-1"),
        ("reproduce.py thread=2", "Did you mean 'threads'?"),
    ],
)
def test_a_wrong_command(command: str, words: str, tmp_path: Path) -> None:
    script, *arguments = command.split()
    if script == "train.py":
        arguments += [f"hydra.run.dir={tmp_path / 'run'}", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
        arguments.sort(key=lambda argument: argument.startswith("--"))  # flags go last
    done = call(script, *arguments, folder=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert words in done.stderr
    assert done.stdout.splitlines()[-1] == "no torch"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"]])
def test_what_answers_without_torch(arguments: list[str], tmp_path: Path) -> None:
    done = call("train.py", *arguments, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "no torch"


def test_full_errors_on_request(tmp_path: Path) -> None:
    done = call("train.py", "optimizer.lr=[1", folder=tmp_path, HYDRA_FULL_ERROR="1")
    assert done.returncode != 0
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("redirection", ["| head -n 1", ">&- 2>&- <&-", "> /dev/full"])
def test_a_reader_that_goes_away_ends_no_run(redirection: str, tmp_path: Path) -> None:
    job = [sys.executable, str(ROOT / "src" / "train.py"), *SMALL, f"hydra.run.dir={tmp_path / 'run'}"]
    command = f"set -o pipefail; {shlex.join(job)} {redirection}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert RunRecord.read(tmp_path / "run").status == "completed"
    if "head" in redirection:
        assert "stdout has lost its reader" in (tmp_path / "run" / "train.log").read_text()


@pytest.mark.parametrize("arguments", [["--help"], ["model=mlp", "--cfg", "job"]])
def test_a_reader_that_has_seen_enough(arguments: list[str]) -> None:
    script = [sys.executable, str(ROOT / "src" / "train.py"), *arguments]
    with subprocess.Popen(script, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert (process.stderr.read(), process.wait(60)) == (b"", 0)


def test_an_error_after_a_sweep_has_begun_is_not_called_a_mistake_in_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "--help" in str(_line_of(KeyError("x"), "train", has_begun=False))
    monkeypatch.setattr(run_folder, "_missing", {tmp_path: []})
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", "seed=0,1"])
    assert _line_of(KeyError("x"), "train", has_begun=False) is None


def test_a_bug_in_the_check_does_not_let_the_run_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hydra turns an exception of a callback into a warning, and would go on without the check."""

    def broken(config: object) -> None:
        raise KeyError("num_nodes")

    monkeypatch.setattr(check_before_run, "composed", broken)
    with pytest.raises(SystemExit) as end:
        check_before_run.CheckBeforeRun().on_run_start(OmegaConf.create({"hydra": {"sweeper": {}}}))
    assert end.value.code == 1
    assert "KeyError: 'num_nodes'" in capsys.readouterr().err
