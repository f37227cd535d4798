"""Runs through the asynchronous server in real processes: whole, without a worker, without the server."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tempo.record.run_json import RunRecord
from tests.jobs import rows_written
from tests.script_process import ScriptProcess

pytest.importorskip("ray", reason="ray is not installed: pip install -e '.[ray]'")
pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes by /proc")

JOB = ["model=mlp", "trainer=ddp_cpu", "trainer.method=ps_async", "trainer.threads=1"]
JOB += ["data.total_batch_size=16", "trainer.log_every_n_steps=7", "trainer.steps_per_call=10"]
# A rate at which stale gradients are harmless. With that of conf/, the losses of two workers rise so high
# that now and then a run diverges before its server is killed, and this is a result.
LONG = ("trainer.epochs=100000", "optimizer.lr=0.001")
PATIENCE_SECONDS = 180
MARK = "TEMPO_TEST_RUN"
"""In the environment of all processes of a run."""


class Script(ScriptProcess):
    """`src/train.py` with two workers of the asynchronous server, and the processes that it has started."""

    def __init__(self, folder: Path, *overrides: str) -> None:
        super().__init__(
            "train.py", *JOB, *overrides, f"hydra.run.dir={folder}", environment={MARK: str(folder)}
        )
        self.mark = f"{MARK}={folder}"

    def processes(self) -> Iterator[tuple[int, str, list[str]]]:
        """Id, title and environment of every process that the script has started, Ray's included."""
        for path in Path("/proc").glob("[0-9]*"):
            try:
                state = (path / "stat").read_text().rpartition(")")[2].split()[0]
                environment = (path / "environ").read_bytes().decode(errors="replace").split("\0")
                title = (path / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            except OSError:
                continue
            if self.mark in environment and state != "Z":
                yield int(path.name), title, environment

    def worker(self, rank: int) -> int:
        """Process id of a worker."""
        found = [
            pid
            for pid, title, environment in self.processes()
            if "tempo.run.worker" in title and f"RANK={rank}" in environment
        ]
        assert len(found) == 1
        return found[0]

    def server(self) -> int:
        """Process id of the parameter server, which Ray gives the title `ray::parameter_server`."""
        found = [pid for pid, title, _ in self.processes() if title.startswith("ray::") and "erver" in title]
        assert len(found) == 1, list(self.processes())
        return found[0]

    def wait_until(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not reached():
            assert self.is_alive(), self.finish()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def left(self, patience_seconds: float = 15) -> list[str]:
        """What is still alive of the run after a while."""
        deadline = time.monotonic() + patience_seconds
        while (alive := [title for _, title, _ in self.processes()]) and time.monotonic() < deadline:
            time.sleep(0.1)
        return alive


def test_a_run_goes_on_without_a_dead_worker_and_stops_and_resumes(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    job = ["trainer.epochs=12", "scheduler=onecycle", "scheduler.max_lr=0.02", "scheduler.min_lr=0.002"]
    job += ["server.max_staleness=1"]
    script = Script(folder, *job)
    script.wait_until(lambda: rows_written(folder) >= 5)
    os.kill(script.worker(1), signal.SIGKILL)
    time.sleep(1)  # the starter looks for dead workers every 0.2 s, and then tells the server
    before = rows_written(folder)
    script.wait_until(lambda: rows_written(folder) >= before + 20)
    script.send_signal(signal.SIGTERM)
    code, out, err = script.finish()
    assert (code, err) == (130, "")
    assert "worker 1 died" in out
    record = RunRecord.read(folder)
    assert record.status == "interrupted"
    assert record.exchange["lost_workers"] == [1]
    assert script.left() == []

    code, out, err = Script(folder, *job, f"resume={folder}").finish()
    assert (code, err) == (0, "")
    record = RunRecord.read(folder)
    found = record.exchange
    steps = 12 * (record.data["train"] // 16)
    assert (record.status, record.steps, record.world_size) == ("completed", steps, 2)
    assert sum(found["staleness"].values()) == sum(found["steps_of_workers"].values()) == steps
    assert found["staleness_max"] <= 1
    # What the server dropped is no image that was trained on.
    assert record.evaluations == steps
    assert record.images_per_second == pytest.approx(16 * steps / record.seconds["train"])
    assert (f"{found['dropped']} gradients dropped as too stale" in out) == (found["dropped"] > 0)
    assert found["steps_of_workers"]["1"] > 100
    assert found["lost_workers"] == [1]
    assert 0 < found["staleness_mean"] < 1.5
    assert record.n_evaluated == record.data["test"] == 359
    assert record.metrics["test"]["accuracy"] > 0.85
    assert "TBS 16 = 16 per worker" in out


def test_the_servers_death_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    script = Script(folder, *LONG)
    script.wait_until(lambda: rows_written(folder) >= 5)
    os.kill(script.server(), signal.SIGKILL)
    code, out, err = script.finish()
    assert code == 1, out
    assert len(err.strip().splitlines()) == 1, err
    assert "the parameter server died" in err
    assert "resume=" in err
    record = RunRecord.read(folder)
    assert record.status == "failed"
    assert "the parameter server died" in record.reason
    assert script.left() == []


def test_a_killed_run_leaves_no_process(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    script = Script(folder, *LONG)
    # Ray's own processes and both workers are there; the rest of their start would only take longer.
    script.wait_until(lambda: sum("tempo.run.worker" in title for _, title, _ in script.processes()) == 2)
    assert len(list(script.processes())) > 5
    script.kill()
    script.finish()
    assert script.left() == []
