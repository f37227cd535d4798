"""Studies in files, which other programs open, and in a data base: a real PostgreSQL, if there is one."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

optuna = pytest.importorskip("optuna", reason="Optuna is not installed: pip install -e '.[search]'")

from tempo.trainer.optuna_trial import close_storage, open_storage, storage_url  # noqa: E402
from tests.sweep.search.searching import run, search, times_run  # noqa: E402

ARGUMENTS = ("optimizer.lr=1e-2,1e-3,1e-4", "trainer.epochs=2")
LOCAL = ("hydra/launcher=local", "hydra.launcher.n_jobs=2", "hydra.launcher.preload=[]")


def answer(app: Any, path: str) -> Any:
    """Return what a web application serves at a path, parsed."""
    request: dict[str, Any] = {}
    setup_testing_defaults(request)
    statuses: list[str] = []
    body = b"".join(app(request | {"PATH_INFO": path}, lambda status, *_: statuses.append(status)))
    assert statuses == ["200 OK"]
    return json.loads(body)


@pytest.mark.parametrize("storage", ["sqlite", "journal"])
def test_optunas_dashboard_lists_the_trials(tmp_path: Path, storage: str) -> None:
    dashboard = pytest.importorskip("optuna_dashboard", reason="pip install optuna-dashboard")
    values = search(tmp_path, run, ARGUMENTS, f"hydra.sweeper.storage={storage}")
    opened = open_storage(storage_url(storage, str(tmp_path)))
    app = dashboard.wsgi(opened)
    (study,) = answer(app, "/api/studies")["study_summaries"]
    assert study["directions"] == ["maximize"]
    trials = answer(app, f"/api/studies/{study['study_id']}")["trials"]
    assert [trial["values"] for trial in trials] == [[value] for value in values]
    assert [[value["step"] for value in trial["intermediate_values"]] for trial in trials] == [[1, 2]] * 3
    close_storage(opened)


def program(name: str) -> str:
    """Return the path of one of PostgreSQL's programs, which Debian keeps out of the PATH."""
    found = shutil.which(name) or next(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), None)
    return found or pytest.skip(f"PostgreSQL is not installed: there is no {name}")


@pytest.fixture
def postgresql() -> Iterator[str]:
    """Yield the URL of a server in a folder of its own; a server does not run as root."""
    initdb, server = program("initdb"), program("pg_ctl")
    driver = next((name for name in ("psycopg", "psycopg2") if importlib.util.find_spec(name)), None)
    if driver is None:
        pytest.skip("Python has no driver for PostgreSQL: pip install 'psycopg[binary]'")
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # a socket's path has at most 107 bytes
    if user is not None:
        shutil.chown(folder, user)

    def call(*command: str) -> None:
        subprocess.run(command, check=True, user=user, cwd=folder, capture_output=True, timeout=120)

    data = str(folder / "data")
    call(initdb, "--pgdata", data, "--username", "tempo", "--auth", "trust", "--no-sync")
    options = f"-c listen_addresses='' -c unix_socket_directories='{folder}'"
    call(server, "--pgdata", data, "--wait", "--log", str(folder / "log"), "--options", options, "start")
    try:
        yield f"postgresql+{driver}://tempo@/postgres?host={folder}"
    finally:
        call(server, "--pgdata", data, "--wait", "--mode", "immediate", "stop")
        shutil.rmtree(folder)


def test_several_jobs_share_a_study_in_postgresql(tmp_path: Path, postgresql: str) -> None:
    storage = f"hydra.sweeper.storage='{postgresql}'"
    settings = ("hydra.sweeper.n_trials=9", "hydra.sweeper.study_name=shared", storage)
    values = search(tmp_path, run, ARGUMENTS, *settings, *LOCAL)
    assert search(tmp_path, run, ARGUMENTS, *settings) == values
    assert list(times_run(tmp_path).values()) == [1, 1, 1]
    opened = open_storage(postgresql)
    trials = optuna.load_study(study_name="shared", storage=opened).trials
    assert sorted(trial.value for trial in trials) == sorted(values)
    assert [sorted(trial.intermediate_values) for trial in trials] == [[1, 2]] * 3
    close_storage(opened)
    assert not (tmp_path / "study.db").exists()
