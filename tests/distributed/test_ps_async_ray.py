"""The asynchronous server as a Ray actor: servers are not shared, and errors name their cause."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tempo.paths import ROOT
from tempo.scaling.point import SUFFIX, ScalingPoint
from tests.scaling.test_benchmark import job

pytest.importorskip("ray", reason="ray is not installed: pip install -e '.[ray]'")

POINT = f"late{SUFFIX}"
SCRIPT = """
import json, sys
from pathlib import Path
import torch
from tempo.errors import UserError
from tempo.distributed.ps_async_ray import SERVER, AsyncWorker, ray_cluster, serve, variables_of_server
from tempo.scaling.benchmark_job import BenchmarkJob
from tempo.scaling.group import run_group

folder = Path(sys.argv[1])
with ray_cluster() as address:
    others, name = torch.nn.Parameter(torch.ones(3)), variables_of_server(address)[SERVER]
    serve(torch.optim.SGD([others]), name, version=8)
    job = BenchmarkJob.read(folder / "late.json")
    run_group(job, 2, folder=folder / "logs", limit_seconds=120, variables=variables_of_server(address))
    worker = AsyncWorker([others], 0, name)
    print(worker.take(), worker.version, worker.counts().steps)
    try:
        AsyncWorker([others], 3, "not started", patience_seconds=0.1)
    except UserError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run SCRIPT once in a process with its own Ray cluster; return the folder of its outputs."""
    folder = tmp_path_factory.mktemp("ray")
    late = {"method": "ps_async", "max_staleness": 0, "steps": 44, "warmup_steps": 4, "compute_steps": 0}
    job(folder, point_file=str(folder / POINT), **late).write(folder / "late.json")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (folder / "output").write_text(done.stdout, encoding="utf-8")
    return folder


def test_dropped_gradients_do_not_count_as_trained_images(folder: Path) -> None:
    """With two equally fast workers and a bound of 0, each is late whenever the other has just stepped."""
    found = ScalingPoint.from_json((folder / POINT).read_text(encoding="utf-8"), POINT)
    assert 0 < found.dropped_gradients < found.sent_gradients <= 2 * 40
    assert found.staleness == 0
    stepped = 1 - found.dropped_gradients / found.sent_gradients
    assert found.images_per_second == pytest.approx(stepped * 2 * 2 / found.step_seconds, rel=0.3)


def test_groups_in_one_cluster_have_separate_servers(folder: Path) -> None:
    """No gradient of the benchmark point reached the server that was there before it."""
    assert (folder / "output").read_text(encoding="utf-8").splitlines()[0] == "work 8 0"


def test_a_server_that_never_started_is_not_reported_as_dead(folder: Path) -> None:
    _, message = (folder / "output").read_text(encoding="utf-8").splitlines()
    assert message.startswith("worker 3 found no parameter server within 0.1 s; worker 0, which starts it,")
    assert "resume=" in message
