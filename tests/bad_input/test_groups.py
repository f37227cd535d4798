"""Groups of processes that cannot be meant: one line that names the remedy."""

from __future__ import annotations

import shlex
import socket
from pathlib import Path

import pytest

from tests.bad_input.conftest import Refused, assert_refused, assert_says
from tests.bad_input.warm import Warm

# (arguments of src/train.py, what the line must name)
RUNS: list[tuple[str, list[str]]] = [
    ("trainer.devices=0", ["trainer.devices=0 must be at least 1"]),
    ("trainer.num_nodes=0", ["trainer.num_nodes=0 must be at least 1"]),
    ("trainer=ddp_cpu trainer.num_nodes=2", ["MASTER_PORT and NODE_RANK, which are not set", "srun"]),
    ("trainer=ddp_cpu trainer.backend=nccl", ["trainer.backend=nccl needs GPUs", "trainer.backend=gloo"]),
    ("trainer=ddp_cpu trainer.method=powersgd", ["trainer.method='powersgd'", "ring"]),
    ("trainer.method=ps_sync", ["needs more than one process", "trainer=ddp_cpu trainer.devices=2"]),
    ("trainer=ddp_cpu trainer.method=ps_sync server.count=3", ["server.count=3 must be in [1, 2]"]),
    ("trainer.compress=fp16", ["has only one; set trainer.compress=null"]),
    ("trainer=ddp_cpu trainer.compress=bf16 trainer.precision=bf16-true", ["trainer.compress=null"]),
    ("trainer=ddp_cpu trainer.compress=bf16 trainer.precision=64-true", ["rounds the float64"]),
    ("trainer=ddp_cpu trainer.compress=int8", ["trainer.compress='int8'", "fp16"]),
    ("trainer=cpu trainer.cuda_graph=true", ["needs an NVIDIA GPU", "trainer.cuda_graph=auto"]),
    ("trainer=ddp trainer.cuda_graph=true", ["of one process", "trainer.cuda_graph=auto"]),
    ("trainer=gpu trainer.cuda_graph=true trainer.precision=16-mixed", ["bf16-mixed"]),
    ("trainer=gpu trainer.cuda_graph=true optimizer=lbfgs", ["but LBFGS makes several"]),
    ("trainer=gpu trainer.cuda_graph=true trainer.profiler=simple", ["trainer.profiler=simple could"]),
    ("trainer.cuda_graph=yes_please", ["trainer.cuda_graph='yes_please'", "auto"]),
    ("trainer=fsdp2 trainer.devices=1", ["has only one; set trainer.devices=2, or trainer.shard=false"]),
    ("trainer=fsdp2 trainer.method=ps_sync", ["trainer.method=ring, or trainer.shard=false"]),
    ("trainer=fsdp2 trainer.precision=16-mixed", ["trainer.precision=bf16-mixed"]),
    ("trainer=fsdp2 trainer.compile=true", ["trainer.compile=false"]),
    ("trainer=fsdp2 optimizer=lbfgs", ["trainer.shard=true", "LBFGS", "optimizer=adamw"]),
    ("trainer=fsdp2 optimizer=bfgs", ["trainer.shard=true", "BFGS", "optimizer=adamw"]),
    ("trainer=fsdp2 optimizer=newton_cg", ["trainer.shard=true", "NewtonCG", "optimizer=adamw"]),
    ("trainer=fsdp2 optimizer=muon", ["MuonWithAdamW is made of", "optimizer=adamw"]),
    ("trainer=fsdp2 optimizer=schedule_free", ["AdamWScheduleFree keeps", "optimizer=adamw"]),
    ("trainer=fsdp2 optimizer.fused=true", ["no fused kernel of SGD", "optimizer.fused=null"]),
]


@pytest.mark.parametrize(("arguments", "words"), RUNS, ids=[each[0][:60] for each in RUNS])
def test_a_run_of_several_processes(
    arguments: str, words: list[str], light: Warm, refused: Refused, tmp_path: Path
) -> None:
    given = [f"hydra.run.dir={tmp_path / 'made' / 'run'}", *shlex.split(arguments)]
    assert_says(refused(light, "train.py", *given), words)


IN_GROUPS: list[tuple[dict[str, str], str, list[str]]] = [
    (
        {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"},
        "trainer=ddp_cpu seed=0,1 -m",
        ["-m cannot run under torchrun or srun"],
    ),
    (
        {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"},
        "trainer=ddp_cpu trainer.devices=4",
        ["trainer.devices=2 trainer.num_nodes=2"],
    ),
    (
        {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},
        "trainer=ddp_cpu trainer.devices=3 data.total_batch_size=48",
        ["2 processes were started", "trainer.devices=2 trainer.num_nodes=1"],
    ),
    ({"NODE_RANK": "0"}, "trainer=ddp_cpu seed=0,1 -m", ["-m with NODE_RANK set", "leave -m out"]),
    (
        {"NODE_RANK": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"},
        "trainer=ddp_cpu trainer.num_nodes=2",
        ["NODE_RANK=2", "NODE_RANK=0 MASTER_PORT=29500 on the first node"],
    ),
    (
        {"NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "99999"},
        "trainer=ddp_cpu trainer.num_nodes=2",
        ["MASTER_PORT=99999 cannot be used", "MASTER_PORT=29500"],
    ),
]


@pytest.mark.parametrize(("variables", "arguments", "words"), IN_GROUPS)
def test_a_group_that_cannot_be_meant(
    variables: dict[str, str], arguments: str, words: list[str], light: Warm, tmp_path: Path
) -> None:
    places = [f"hydra.{kind}.dir={tmp_path / 'made' / kind}" for kind in ("run", "sweep")]
    done = light.call("train.py", *places, *shlex.split(arguments), folder=tmp_path, environment=variables)
    assert_refused(done)
    assert_says(done.err, words)
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use(light: Warm, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        variables = {"NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        test_a_group_that_cannot_be_meant(
            variables,
            "trainer=ddp_cpu trainer.num_nodes=2",
            [
                f"MASTER_PORT={port} cannot be used on this node (Address already in use)",
                "on all nodes",
            ],
            light,
            tmp_path,
        )
