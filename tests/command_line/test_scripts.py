"""Wrong commands through the real scripts: one line, exit code 1, no torch, nothing left behind."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tempo.paths import ROOT
from tempo.record.run_json import RunRecord

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


def call(script: str, *arguments: str, timeout_seconds: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(ROOT / "src" / script), *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=timeout_seconds,
        env={key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"},
    )


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1, done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr


# As a user starts them; tests/bad_input has the hundreds.
WRONG = [
    (["model=densnet40"], ["Did you mean 'densenet40'?"]),
    (["optimizer.lr=-1"], ["optimizer.lr=-1", "optimizer.lr=0.1"]),
    (["seed=1,2", "--multrun"], ["Did you mean '--multirun'?"]),
    (["optimizer.lr=[1"], ["optimizer.lr=[1"]),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG, ids=[" ".join(each[0]) for each in WRONG])
def test_a_wrong_command(arguments: list[str], words: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = call("train.py", *arguments, f"hydra.run.dir={folder}")
    assert_refused(done, *words)
    assert done.stdout.splitlines()[-1] == "no torch"
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_job_of_a_sweep_ends_it_before_the_first_job(tmp_path: Path) -> None:
    done = call("train.py", "model=mlp", "optimizer.lr=0.1,-1", "-m", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert_refused(done, "optimizer.lr=-1")
    assert done.stdout.splitlines()[-1] == "no torch"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    done = call("train.py", "model=mlp", f"hydra.run.dir={tmp_path / 'file' / 'run'}")
    assert_refused(done, str(tmp_path / "file"), "hydra.run.dir=")


def test_the_folder_of_a_sweeps_run_needs_no_quotes(tmp_path: Path) -> None:
    folder = tmp_path / "lr=0.1,it's"
    folder.mkdir()
    assert_refused(call("evaluate.py", f"run={folder}"), f"{folder} has no run.json")
    assert_refused(call("train.py", f"init_from={folder}"), f"{folder} has no run.json")


def test_missing_data_leaves_no_folder(tmp_path: Path) -> None:
    done = call(
        "train.py",
        "data=mnist",
        "data.download=false",
        f"data.root={tmp_path / 'absent'}",
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    assert_refused(done, str(tmp_path / "absent"), "data=digits")
    assert not (tmp_path / "run").exists()


def test_a_folder_of_the_user_is_left_alone(tmp_path: Path) -> None:
    """A run that cannot work is taken back; what lay in its folder before it is not."""
    folder = tmp_path / "run"
    (folder / "notes").mkdir(parents=True)
    (folder / "notes" / "thesis.tex").write_text("years of work")
    done = call(
        "train.py",
        "data=mnist",
        "data.download=false",
        f"data.root={tmp_path / 'absent'}",
        f"hydra.run.dir={folder}",
    )
    assert_refused(done, str(tmp_path / "absent"))
    assert (folder / "notes" / "thesis.tex").read_text() == "years of work"


def test_a_strangers_folder_runs_nothing(tmp_path: Path) -> None:
    """Neither by a flag nor by a target: refused before anything is made of it."""
    trap = tmp_path / "trap"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(trap),)

    (tmp_path / "evil.pickle").write_bytes(pickle.dumps(Trap()))
    folder = tmp_path / "run"
    folder.mkdir()
    for override, words in (
        (f"--experimental-rerun={tmp_path / 'evil.pickle'}", "which no run records"),
        ("model._target_=shutil.rmtree", "config.model._target_=shutil.rmtree is not named in conf/model"),
        ("scheduler._target_=antigravity.fly", "config.scheduler._target_=antigravity.fly is not named in"),
    ):
        RunRecord(config={}, config_hash="", overrides=[override], seed=0).write(folder)
        done = call("train.py", f"resume={folder}")
        assert_refused(done, words)
        assert done.stdout.splitlines()[-1] == "no torch"
    assert not trap.exists()


def test_evaluate_without_a_run(tmp_path: Path) -> None:
    done = call("evaluate.py")
    assert_refused(done, "run=")
    assert done.stdout.splitlines()[-1] == "no torch"
    assert_refused(call("evaluate.py", f"run={tmp_path / 'absent'}"), str(tmp_path / "absent"), "run.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("script", ["evaluate.py", "reproduce.py"])
def test_a_folder_that_stands_alone_is_the_run(script: str, tmp_path: Path) -> None:
    absent = tmp_path / "seed=0"
    done = call(script, str(absent), "accelerator=cpu")
    assert_refused(done, f"{absent} has no run.json")
    assert done.stdout.splitlines()[-1] == "no torch"


def test_reproduce_without_a_record(tmp_path: Path) -> None:
    assert_refused(call("reproduce.py", "thread=2"), "Did you mean 'threads'?")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"]])
def test_what_answers_at_once(arguments: list[str]) -> None:
    done = call("train.py", *arguments)
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "no torch"


def test_full_errors_on_request(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "src" / "train.py"), "optimizer.lr=[1"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "HYDRA_FULL_ERROR": "1"},
        cwd=tmp_path,
    )
    assert done.returncode != 0
    assert "Traceback" in done.stderr


def test_a_reader_that_has_seen_enough() -> None:
    script = [sys.executable, str(ROOT / "src" / "train.py"), "--help"]
    with subprocess.Popen(script, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert (process.stderr.read(), process.wait(60)) == (b"", 141)
