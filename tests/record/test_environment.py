"""What a record knows of its checkout, its lock and its environment, against files made for it."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from tempo.record import environment
from tempo.record.environment import LARGEST_DIFF, git_state, lock_state, surroundings


def git(folder: Path, *arguments: str, feed: bytes | None = None) -> bytes:
    names = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", *names, *arguments], cwd=folder, capture_output=True, check=True, input=feed
    )
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "checkout"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "model.py").write_text("width = 1\n")
    (folder / ".gitignore").write_text("logs/\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    monkeypatch.setattr(environment, "ROOT", folder)
    monkeypatch.delenv("TEMPO_PROJECT", raising=False)
    return folder


def test_a_clean_checkout_is_its_commit(checkout: Path) -> None:
    (checkout / "logs").mkdir()
    (checkout / "logs" / "run.json").write_text("{}")
    commit = git(checkout, "rev-parse", "HEAD").decode().strip()
    assert git_state() == ({"commit": commit, "dirty": False}, b"")


def test_the_diff_of_a_dirty_checkout_brings_its_files_back(checkout: Path, tmp_path: Path) -> None:
    (checkout / "src" / "model.py").write_text("width = 2\n")
    (checkout / "src" / "picture.png").write_bytes(bytes(range(256)))
    (checkout / "src" / "table.csv").write_text("0,\n" * (LARGEST_DIFF // 4))  # more than a record keeps
    git(checkout, "add", "-N", "src/picture.png", "src/table.csv")
    (checkout / "src" / "mine with spaces.py").write_text("depth = 3\n")
    (checkout / "notes.txt").write_text("no source")
    state, diff = git_state()
    assert state["dirty"] is True
    assert state["diff_sha256"] == hashlib.sha256(diff).hexdigest()
    assert state["diff_bytes"] == len(diff) > LARGEST_DIFF
    assert state["untracked"] == {"src/mine with spaces.py": hashlib.sha256(b"depth = 3\n").hexdigest()}
    again = tmp_path / "again"
    git(tmp_path, "clone", "-q", str(checkout), str(again))
    git(again, "apply", feed=diff)
    assert (again / "src" / "model.py").read_text() == "width = 2\n"
    assert (again / "src" / "picture.png").read_bytes() == bytes(range(256))


def test_no_checkout_is_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setenv("TEMPO_PROJECT", str(tmp_path))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state() == ({}, b"")


def test_a_lock_is_its_hash_and_what_differs_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch-2.14.1+cpu", "Jinja2-3.1.0", "ruamel.yaml-0.18", "typing_extensions-4.0"):
        (tmp_path / "site" / f"{name}.dist-info").mkdir(parents=True)
    monkeypatch.setattr(environment.sys, "path", [str(tmp_path / "site"), str(tmp_path / "absent")])
    environment._installed.cache_clear()
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        "# a comment\ntorch==2.14.1 \\\n    --hash=sha256:ab\njinja2==3.2.0\nruamel-yaml==0.18 ; python\n"
        "typing-extensions==4.1\nabsent==1.0\n"
    )
    try:
        found = lock_state(lock)
    finally:
        environment._installed.cache_clear()
    assert found["sha256"] == hashlib.sha256(lock.read_bytes()).hexdigest()
    assert found["other"] == {"jinja2": "3.1.0, locked 3.2.0", "typing-extensions": "4.0, locked 4.1"}
    assert lock_state(tmp_path / "none.lock") == {}


def test_only_switches_by_name_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    for name in ("WANDB_API_KEY", "TORCH_SECRET", "MKL_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "hunter2")
    found = surroundings()
    assert found["variables"]["MKL_CBWR"] == "COMPATIBLE"
    assert "hunter2" not in str(found)
