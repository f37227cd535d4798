"""Runs killed at random moments end as if nothing had been: a few of those of benchmarks/faults.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tempo.paths import ROOT


def test_runs_killed_at_random_moments_leave_the_same_bits(tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    command = [sys.executable, "benchmarks/faults.py", "--runs", "2", "--seed", "1", "--record", str(record)]
    command += ["--variants", "1cycle, cyclical momentum", "every 2 steps, end within an epoch"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(record.read_text(encoding="utf-8"))
    assert [found[name] for name in ("runs", "resumed", "identical", "lost")] == [2, 2, 2, 0]
    assert found["stops"] >= 2
