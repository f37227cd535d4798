"""A search whose study lies in a data base: a real PostgreSQL, where there is one."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

optuna = pytest.importorskip("optuna", reason="Optuna is not installed: pip install -e '.[search]'")

from tempo.trainer.search_trial import close_storage, open_storage  # noqa: E402
from tests.search.searching import run, search, times_run  # noqa: E402

ARGUMENTS = ("optimizer.lr=1e-2,1e-3,1e-4", "trainer.epochs=2")
LOCAL = ("hydra/launcher=local", "hydra.launcher.n_jobs=2", "hydra.launcher.preload=[]")


def program(name: str) -> str:
    """Debian keeps the server's programs out of the PATH."""
    found = shutil.which(name) or next(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), None)
    return found or pytest.skip(f"PostgreSQL is not installed: there is no {name}")


@pytest.fixture
def url() -> Iterator[str]:
    """A server of its own, reached by a socket in its folder; it does not run as root."""
    initdb, server = program("initdb"), program("pg_ctl")
    driver = next((each for each in ("psycopg", "psycopg2") if importlib.util.find_spec(each)), None)
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


def test_several_jobs_share_a_study_in_postgresql(tmp_path: Path, url: str) -> None:
    given = f"hydra.sweeper.storage='{url}'"
    settings = ("hydra.sweeper.n_trials=9", "hydra.sweeper.study_name=shared", given)
    values = search(tmp_path, run, ARGUMENTS, *settings, *LOCAL)
    assert search(tmp_path, run, ARGUMENTS, *settings) == values
    assert set(times_run(tmp_path).values()) == {1}
    assert len(times_run(tmp_path)) == 3
    storage = open_storage(url)
    study = optuna.load_study(study_name="shared", storage=storage)
    assert sorted(each.value for each in study.trials) == sorted(values)
    assert [sorted(each.intermediate_values) for each in study.trials] == [[1, 2]] * 3
    close_storage(storage)
    assert not (tmp_path / "study.db").exists()
