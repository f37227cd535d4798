"""Groups that others start: torchrun by hand, srun's names, several nodes; layouts that cannot be meant."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tempo.distributed.gradient_exchange import RingExchange
from tempo.distributed.process_group import check_layout, position, rendezvous, take_names_of_torchrun
from tempo.errors import UserError
from tempo.paths import ROOT
from tempo.record.run_json import RunRecord
from tests.jobs import SMALL
from tests.script_process import ScriptProcess

TWO = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*TWO, "TORCHELASTIC_RUN_ID", "TEMPO_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK"]:
        monkeypatch.delenv(name, raising=False)
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_two_nodes_each_start_their_part(tmp_path: Path) -> None:
    folder, port = tmp_path / "run", free_port()
    job = [
        *SMALL[:1],
        *SMALL[2:],
        "trainer=ddp_cpu",
        "trainer.devices=1",
        "trainer.num_nodes=2",
        "trainer.max_steps=6",
    ]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    nodes = [
        ScriptProcess(
            "train.py", *job, f"hydra.run.dir={folder}", environment={**meeting, "NODE_RANK": str(rank)}
        )
        for rank in range(2)
    ]
    ended = [node.finish() for node in nodes]
    assert [node.code for node in ended] == [0, 0], ended
    record = RunRecord.read(folder)
    assert record.status == "completed"
    assert record.world_size == 2
    assert record.batch["per_device"] == 32
    assert "completed" in ended[0].out
    assert (folder / "ranks" / "rank1.log").exists()


def test_under_the_users_own_torchrun(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    job = [*SMALL[:1], *SMALL[2:], "trainer=ddp_cpu", "trainer.devices=2", "trainer.max_steps=6"]
    done = subprocess.run(
        [*torchrun, "src/train.py", *job, f"hydra.run.dir={tmp_path}/${{name}}"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    record = RunRecord.read(tmp_path / "mlp_digits")
    assert (record.status, record.world_size) == ("completed", 2)
    assert done.stdout.count("tested    step") == 1


def test_places_of_srun(monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = {
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_STEP_NUM_NODES": "2",
        "SLURM_PROCID": "3",
        "SLURM_LOCALID": "1",
        "SLURM_JOB_ID": "77",
        "SLURM_STEP_ID": "0",
    }
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    for name in TWO:  # undone at the end of the test
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    take_names_of_torchrun()
    here = position()
    assert here is not None
    assert (here.rank, here.world_size, here.local_world_size, here.shared_id) == (3, 4, 2, "77_0")


def test_layouts_that_were_not_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TWO.items():
        monkeypatch.setenv(name, value)
    check_layout(RingExchange(devices=2, nodes=2))
    with pytest.raises(UserError, match=r"trainer\.devices=2 trainer\.num_nodes=2"):
        check_layout(RingExchange(devices=4, nodes=1))


def test_where_nodes_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rendezvous(1) == []
    all_of_them = "trainer.num_nodes=2 needs MASTER_ADDR, MASTER_PORT and NODE_RANK, which are not set"
    with pytest.raises(UserError, match=all_of_them):
        rendezvous(2)
    monkeypatch.setenv("MASTER_ADDR", "a")
    with pytest.raises(UserError, match="needs MASTER_PORT and NODE_RANK, which are not set"):
        rendezvous(2)
    monkeypatch.setenv("MASTER_PORT", "1")
    with pytest.raises(UserError, match=r"needs NODE_RANK, which is not set; .*trainer\.num_nodes=1"):
        rendezvous(2)
    for name, value in {"MASTER_ADDR": "a", "MASTER_PORT": "1", "NODE_RANK": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="NODE_RANK=2"):
        rendezvous(2)
