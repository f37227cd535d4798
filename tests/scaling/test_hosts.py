"""Emulated hosts: real sockets behind limited links, and nothing left of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tempo.scaling.measured_point import ScalingPoint

ROOT = Path(__file__).resolve().parents[2]
HOSTS = [sys.executable, str(ROOT / "benchmarks" / "hosts.py")]
SKIPPED = 77
RATE_BYTES = 250e6 / 8


def run_hosts(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HOSTS, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def permitted() -> None:
    done = run_hosts("--hosts", "2", "--", "true")
    if done.returncode == SKIPPED:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr


def test_two_hosts_exchange_no_quicker_than_their_links(permitted: None, tmp_path: Path) -> None:
    size = 1_250_000
    job = {
        "point_file": str(tmp_path / "two.point.json"),
        "method": "ring",
        "forward_seconds": 0.01,
        "backward_seconds": 0.02,
        "sizes": [size],
        "steps": 4,
        "warmup_steps": 1,
        "bucket_mb": 1e5,
        "known": {"model": "sleep"},
    }
    (tmp_path / "job.json").write_text(json.dumps(job), encoding="utf-8")
    rank = ("--", sys.executable, str(ROOT / "benchmarks" / "emulated_worker.py"), str(tmp_path / "job.json"))
    done = run_hosts("--hosts", "2", "--rate", "250mbit", "--seconds", "100", *rank)
    assert done.returncode == 0, done.stdout + done.stderr
    point = ScalingPoint.from_json((tmp_path / "two.point.json").read_text(encoding="utf-8"), "point")
    assert point.workers == 2
    # Each of two workers sends S; the bucket of tokens that fills while it computes is 256 kB.
    assert point.step_seconds > 0.03 + (4 * size - 256e3) / RATE_BYTES


def test_a_mistyped_rate_is_refused_and_not_skipped() -> None:
    done = run_hosts("--rate", "1gbitt", "--", "true")
    assert done.returncode == 2
    assert "'1gbitt' is not a rate: a number and mbit or gbit, e.g. 1gbit" in done.stderr


def test_a_failing_rank_ends_the_others(permitted: None) -> None:
    begin = time.monotonic()
    done = run_hosts("--hosts", "2", "--", "sh", "-c", "test {rank} = 0 && sleep 100; exit 3")
    assert done.returncode == 3
    assert time.monotonic() - begin < 60


def test_nothing_is_left_of_hosts_that_are_killed(permitted: None, tmp_path: Path) -> None:
    before = _interfaces()
    word = "67.8125"  # tells these processes from all others
    process = subprocess.Popen([*HOSTS, "--hosts", "2", "--", "sleep", word], cwd=tmp_path)
    _wait(lambda: _running(word) >= 2)
    assert _interfaces() == before  # they stand in a namespace of their own
    process.kill()
    process.wait()
    _wait(lambda: _running(word) == 0)


@pytest.mark.parametrize("tool", ["tc", "ip"])
def test_a_link_without_limit_is_refused(permitted: None, tool: str, tmp_path: Path) -> None:
    real = shutil.which(tool)
    (tmp_path / tool).write_text(
        f'#!/bin/sh\ncase "$*" in *tbf*|*address*) echo no such thing >&2; exit 2;; esac\nexec {real} "$@"\n'
    )
    (tmp_path / tool).chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = run_hosts("--hosts", "2", "--", "true", environment={"PATH": path})
    assert done.returncode == SKIPPED
    assert "no such thing" in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_a_missing_tool_is_named_with_its_package(tmp_path: Path) -> None:
    done = run_hosts("--hosts", "2", "--", "true", environment={"PATH": str(tmp_path)})
    assert done.returncode == SKIPPED
    assert done.stderr.strip() == "skipped: `ip` is missing: apt-get install iproute2"


def _interfaces() -> set[str]:
    return {path.name for path in Path("/sys/class/net").iterdir()}


def _running(word: str) -> int:
    found = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes().split(b"\0")
        except OSError:
            continue
        found += arguments[:2] == [b"sleep", word.encode()]
    return found


def _wait(holds: object) -> None:
    assert callable(holds)
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)
