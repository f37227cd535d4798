"""Two users in one folder of logs: neither touches what is the other's, and is told so in a line."""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tempo.command_line.run_folder_name import new_folder
from tempo.command_line.system_errors import storage_line
from tempo.record.atomic_write import write_atomically
from tempo.record.folder_lock import FolderLock
from tempo.record.run_folder import point_latest_at

OTHER_USER = 65534


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder for all, like /tmp: everybody may write, nobody may remove what is another's."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can act as two users")
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is closed to others
        Path(folder).chmod(0o755)
        logs = Path(folder) / "logs"
        logs.mkdir()
        logs.chmod(0o1777)
        yield logs


def as_other_user(action: Callable[[], object]) -> int:
    """Exit code of a process of another user: 0 where `action` returns something true."""
    process = os.fork()
    if process == 0:
        code = 2
        try:
            os.setgroups([])
            os.setuid(OTHER_USER)
            code = 0 if action() else 1
        except BaseException:  # noqa: BLE001 - the child must not run the tests on
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def test_another_s_link_to_the_latest_run_stays(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPO_PROJECT", str(shared.parent))
    for name in ("mine", "theirs"):
        (shared / name).mkdir()
    point_latest_at(shared / "mine")
    assert as_other_user(lambda: (point_latest_at(shared / "theirs"), True)) == 0
    assert (shared / "latest").readlink() == shared / "mine"
    assert sorted(path.name for path in shared.iterdir()) == ["latest", "mine", "theirs"]
    point_latest_at(shared / "theirs")
    assert (shared / "latest").readlink() == shared / "theirs", "its owner moves it"


def test_runs_that_start_in_one_second_have_folders_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    names = set()
    for process in (7, 77):
        monkeypatch.setattr(os, "getpid", lambda process=process: process)
        names.add(new_folder("logs", "mlp"))
    assert len(names) == 2


def test_another_s_run_or_sweep_is_not_entered(shared: Path) -> None:
    theirs = shared / "sweep"
    theirs.mkdir(mode=0o755)
    with FolderLock(theirs, what="the same sweep", remedy=""):
        pass
    before = {path.name: path.read_bytes() for path in theirs.iterdir()}

    def refused() -> bool:
        lines = []
        for enter in (
            lambda: FolderLock(theirs, what="the same sweep", remedy="").__enter__(),
            lambda: write_atomically(theirs / "run.json", "{}"),
            (theirs / "seed=0").mkdir,
        ):
            try:
                enter()
            except OSError as error:
                lines.append(storage_line(error, theirs) or "")
        return len(lines) == 3 and all("choose another folder with hydra.run.dir" in line for line in lines)

    assert as_other_user(refused) == 0
    assert {path.name: path.read_bytes() for path in theirs.iterdir()} == before


def test_a_private_umask_keeps_others_out_of_one_s_own_runs_only(shared: Path) -> None:
    before = os.umask(0o077)
    try:
        (shared / "mine").mkdir()
        write_atomically(shared / "mine" / "run.json", "{}")
    finally:
        os.umask(before)
    theirs = shared / "theirs"

    def work() -> bool:
        theirs.mkdir()
        with FolderLock(theirs, what="another run", remedy=""):
            write_atomically(theirs / "run.json", "{}")
        try:
            (shared / "mine" / "run.json").read_bytes()
        except PermissionError:
            return True
        return False

    assert as_other_user(work) == 0
    assert (theirs / "run.json").stat().st_uid == OTHER_USER
