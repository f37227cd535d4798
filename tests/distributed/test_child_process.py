"""Processes that end with the one that started them, from their first moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tempo.distributed.child_process import ChildProcess, exit_reason, last_line
from tempo.distributed.interrupt_counter import StopSignals
from tempo.paths import ROOT

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
SLEEPING = ("timeit", "-n1", "-r1", "import time; time.sleep(600)")
PARENT = f"""
import os, signal, sys, time
from tempo.distributed.child_process import ChildProcess
print(ChildProcess.run_module(*{SLEEPING!r}).pid, flush=True)
time.sleep(float(sys.argv[1]))
os.kill(os.getpid(), signal.SIGKILL)
"""


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("parent_lives_seconds", [0.0, 0.02, 0.05, 0.1, 0.5])
def test_a_child_ends_with_its_parent_also_while_it_starts(parent_lives_seconds: float) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PARENT, str(parent_lives_seconds)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    child, deadline = int(done.stdout), time.monotonic() + 10
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    try:
        assert not is_alive(child)
    finally:
        if is_alive(child):
            os.kill(child, signal.SIGKILL)


def test_the_end_of_a_child_has_a_reason(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w") as errors:
        child = ChildProcess.run_module("timeit", "-n1", "-r1", "raise KeyError('lost')", stderr=errors)
        assert exit_reason(child.wait()) == "exit code 1"
    assert last_line(log) == "KeyError: 'lost'"
    child = ChildProcess.fork(lambda: 3)
    assert exit_reason(child.wait()) == "exit code 3"
    child = ChildProcess.fork(lambda: time.sleep(600) or 0)
    child.kill()
    assert exit_reason(child.wait()) == "killed by SIGKILL"


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_first_signal_is_passed_on_and_a_ctrl_c_after_it_kills(tmp_path: Path, first: int) -> None:
    heard = tmp_path / "heard"

    def stubborn() -> int:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: heard.touch())
        (tmp_path / "ready").touch()
        while True:
            time.sleep(0.01)

    def press_twice() -> None:
        while not (tmp_path / "ready").exists() or signal.getsignal(signal.SIGINT) == before:
            time.sleep(0.01)
        os.kill(os.getpid(), first)
        while not heard.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    child = ChildProcess.fork(stubborn)
    thread = threading.Thread(target=press_twice)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        child.wait()
    thread.join()
    assert exit_reason(child.wait()) == "killed by SIGKILL"
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize(
    ("numbers", "insisted"),
    [((signal.SIGINT,), False), ((signal.SIGTERM,) * 3, False), ((signal.SIGTERM, signal.SIGINT), True)],
)
def test_only_a_ctrl_c_after_the_first_signal_insists(numbers: tuple[int, ...], insisted: bool) -> None:
    with StopSignals() as signals:
        assert not signals.asked
        for number in numbers:
            signal.raise_signal(number)
        assert (signals.asked, signals.insisted) == (True, insisted)
