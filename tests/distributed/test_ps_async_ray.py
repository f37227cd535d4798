"""The asynchronous server as a Ray actor: servers are not shared, and errors name their cause."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tempo.paths import ROOT

pytest.importorskip("ray", reason="ray is not installed: pip install -e '.[ray]'")

SCRIPT = """
import torch
from tempo.errors import UserError
from tempo.distributed.ps_async_ray import AsyncWorker, serve
from tempo.distributed.ray_cluster import SERVER, ray_cluster, variables_of_server

with ray_cluster() as address:
    weights = torch.nn.Parameter(torch.ones(3))
    names = [variables_of_server(address)[SERVER] for _ in range(2)]
    for name, version in zip(names, (8, 0)):
        serve(torch.optim.SGD([weights]), name, version=version)
    other = AsyncWorker([weights], 0, names[1])
    other.take()
    other.exchange([torch.ones(3)])
    worker = AsyncWorker([weights], 0, names[0])
    print(worker.take(), worker.version, worker.counts().steps, other.counts().steps)
    try:
        AsyncWorker([weights], 3, "not started", patience_seconds=0.1)
    except UserError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run SCRIPT once in a process with its own Ray cluster; return the folder of its outputs."""
    folder = tmp_path_factory.mktemp("ray")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (folder / "output").write_text(done.stdout, encoding="utf-8")
    return folder


def test_groups_in_one_cluster_have_separate_servers(folder: Path) -> None:
    """A gradient for one server is not a step of the other."""
    assert (folder / "output").read_text(encoding="utf-8").splitlines()[0] == "work 8 0 1"


def test_a_server_that_never_started_is_not_reported_as_dead(folder: Path) -> None:
    _, message = (folder / "output").read_text(encoding="utf-8").splitlines()
    assert message.startswith("worker 3 found no parameter server within 0.1 s; worker 0, which starts it,")
    assert "resume=" in message
