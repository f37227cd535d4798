"""Groups of processes that do not fit the command: one line that names the remedy."""

from __future__ import annotations

import shlex
import socket
from pathlib import Path

import pytest

from tests.bad_input.conftest import assert_refused, assert_says
from tests.bad_input.warm import Warm

IN_GROUPS: list[tuple[dict[str, str], str, list[str]]] = [
    ({}, "trainer=ddp_cpu trainer.num_nodes=2", ["MASTER_PORT and NODE_RANK, which are not set", "srun"]),
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
            [f"MASTER_PORT={port} cannot be used on this node (Address already in use)", "on all nodes"],
            light,
            tmp_path,
        )
