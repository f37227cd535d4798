"""A group on one machine listens nowhere but on the loopback interface, and ends as a whole."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tempo.paths import ROOT
from tests.jobs import rows_written

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
JOB = ("model=mlp", "trainer=ddp_cpu", "trainer.devices=2", "trainer.threads=1", "data.train_size=320")
JOB += ("trainer.log_every_n_steps=1", "trainer.steps_per_call=1", "trainer.epochs=100000")


def wait_until(condition: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def descendants(process: int) -> Iterator[int]:
    """The process, its children, theirs, and so on."""
    yield process
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        for child in task.read_text().split():
            yield from descendants(int(child))


def listening(processes: list[int]) -> set[str]:
    """Addresses on which these processes wait for connections, over TCP or UDP."""
    addresses = {}
    for table, listens in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            words = bytes.fromhex(local.partition(":")[0])
            address = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
            if state == listens:
                family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
                addresses[inode] = socket.inet_ntop(family, address)
    found = set()
    for process in processes:
        for file in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed in the meantime
                target = os.readlink(file)  # noqa: PTH115 - no path
                found.add(addresses.get(target.removeprefix("socket:[").rstrip("]"), ""))
    return found - {""}


def test_the_list_of_listening_sockets_has_them() -> None:
    with (
        socket.socket() as everywhere,
        socket.socket() as loopback,
        socket.socket(type=socket.SOCK_DGRAM) as udp,
    ):
        for one in (everywhere, udp):
            one.bind(("0.0.0.0", 0))
        loopback.bind(("127.0.0.1", 0))
        everywhere.listen()
        loopback.listen()
        assert listening([os.getpid()]) >= {"0.0.0.0", "127.0.0.1"}


@pytest.mark.parametrize("how", ["trainer.shard=true", "trainer.method=ps_sync", "trainer.method=ps_async"])
def test_a_group_listens_on_the_loopback_interface_only(how: str, tmp_path: Path) -> None:
    if how.endswith("async"):
        pytest.importorskip("ray")
    run, temporary = tmp_path / "run", tmp_path / "t"
    temporary.mkdir()
    command = [sys.executable, "src/train.py", *JOB, how, f"hydra.run.dir={run}"]
    environment = {**os.environ, "TMPDIR": str(temporary)} if not how.endswith("async") else {**os.environ}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: rows_written(run) >= 3 or process.poll() is not None)
            found = listening(list(descendants(process.pid)))
            folders = [(path.stat().st_mode & 0o777) for path in temporary.glob("tempo_group_*")]
        finally:
            process.terminate()
        assert process.wait(60) == 130
    assert found, "nothing listens: the test shows nothing"
    assert found <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    if not how.endswith("async"):
        assert folders == [0o700]
        assert list(temporary.glob("tempo_group_*")) == []


RANKS = """
import os, pathlib, signal, sys, time
rank, what, folder = int(os.environ["RANK"]), sys.argv[1], pathlib.Path(sys.argv[2])
(folder / f"rank{rank}").write_text(str(os.getpid()))
if what == "fails" and rank == 1:
    sys.exit(3)
if what == "is killed" and rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
if what in ("waits", "fails", "is killed"):
    time.sleep(600)
sys.exit({"ends": 0, "stops": 130}[what])
"""


def start_ranks(what: str, tmp_path: Path) -> subprocess.Popen[bytes]:
    (tmp_path / "ranks_of_test.py").write_text(RANKS)
    program = "import sys; from tempo.distributed.child_process import ChildProcess; "
    program += "sys.exit(ChildProcess.run_module('tempo.distributed.local_group', '2', *sys.argv[1:]).wait())"
    path = os.pathsep.join([str(ROOT / "src"), str(tmp_path)])
    return subprocess.Popen(
        [sys.executable, "-c", program, "ranks_of_test", what, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(tmp_path)},
    )


def is_alive(process: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("what", "code"), [("ends", 0), ("stops", 130), ("fails", 3), ("is killed", 137), ("waits", None)]
)
def test_ranks_end_together_and_leave_nothing(what: str, code: int | None, tmp_path: Path) -> None:
    files = [tmp_path / f"rank{rank}" for rank in range(2)]
    with start_ranks(what, tmp_path) as process:
        wait_until(lambda: all(file.exists() and file.read_text() for file in files))
        if code is None:
            process.send_signal(signal.SIGKILL)
        assert process.wait(30) == (-9 if code is None else code)
    wait_until(lambda: not any(is_alive(int(file.read_text())) for file in files), 10)
    wait_until(lambda: not list(tmp_path.glob("tempo_group_*")), 10)
