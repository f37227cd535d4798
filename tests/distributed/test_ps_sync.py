"""A synchronous parameter server gives DDP's weights and sends the bytes that it says."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from tempo.distributed.ps_sync import ServerSettings, place_parameters, use_server
from tempo.record.run_json import RunRecord
from tests.conftest import Train, Trained
from tests.jobs import SMALL, finish, fork_server, start_group

STEPS = 20
JOB = [
    "data.total_batch_size=48",
    f"trainer.max_steps={STEPS}",
    "trainer.precision=64-true",
    "model.hidden=[16]",
]
ADAM = ["optimizer=adam", "scheduler=onecycle"]
LAYOUTS = [
    (2, [], ["server.reply=parameters"]),
    (4, ADAM, ["server.reply=parameters", "server.count=2"]),
    (2, ADAM, ["server.reply=gradients", "server.count=2", "server.placement=sharded"]),
    (3, [], ["server.reply=gradients", "server.count=2", "server.placement=round_robin"]),
]


def run_group(folder: Path, overrides: list[str], devices: int) -> Trained:
    assert start_group(folder, [*SMALL, *overrides], devices).finish() == [0] * devices
    return Trained(folder, RunRecord.read(folder))


@pytest.fixture(scope="module")
def parameters_bytes() -> int:
    return 8 * (64 * 16 + 16 + 16 * 10 + 10)


@pytest.mark.parametrize(("devices", "optimizer", "server"), LAYOUTS)
def test_weights_equal_those_of_one_process(
    devices: int,
    optimizer: list[str],
    server: list[str],
    train: Train,
    tmp_path: Path,
    parameters_bytes: int,
) -> None:
    whole = train(*JOB, *optimizer, folder="one")
    server_run = run_group(
        tmp_path / "server", [*JOB, *optimizer, "trainer.method=ps_sync", *server], devices
    )
    expected = whole.checkpoint()
    found = server_run.checkpoint()
    for name, value in found["state_dict"].items():
        torch.testing.assert_close(value, expected["state_dict"][name], rtol=0, atol=1e-10, msg=name)
    # The checkpoint has the state of every parameter, whichever server stepped it.
    state = found["optimizer_states"][0]["state"]
    assert state.keys() == expected["optimizer_states"][0]["state"].keys()
    for number, values in expected["optimizer_states"][0]["state"].items():
        for name, value in values.items():
            torch.testing.assert_close(state[number][name], value, rtol=0, atol=1e-10)
    if server[-1].startswith("server.reply"):  # one server: receives all gradients, sends all parameters
        every_step = (devices - 1) * parameters_bytes
        assert server_run.record.exchange == {
            "sent_bytes_per_step": every_step,
            "received_bytes_per_step": every_step,
        }


def test_compression_halves_the_bytes(tmp_path: Path, parameters_bytes: int) -> None:
    job = [*JOB[:2], "model.hidden=[16]", "trainer.method=ps_sync", "server.reply=gradients"]
    server_run = run_group(tmp_path / "server", [*job, "trainer.compress=bf16"], 2)
    assert server_run.record.status == "completed"
    assert server_run.record.exchange["sent_bytes_per_step"] == parameters_bytes / 8 * 2


def _average_large_gradients(rank: int, store: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    network = DistributedDataParallel(torch.nn.Linear(3, 1, bias=False))
    use_server(network, ServerSettings(count=1, placement="by_size", reply="gradients"), "fp16")
    network(torch.tensor([[40_960.0, 49_152.0 + 8_192 * rank, -61_440.0]])).sum().backward()
    found = next(network.parameters()).grad
    distributed.destroy_process_group()
    sys.exit(0 if torch.equal(found, torch.tensor([[40_960.0, 53_248.0, -61_440.0]])) else str(found))


def test_a_compressed_sum_does_not_overflow(tmp_path: Path) -> None:
    """The largest float16 is 65,504: every sum here is above it, no mean is."""
    context = fork_server()
    group = [
        context.Process(target=_average_large_gradients, args=(rank, str(tmp_path / "store")))
        for rank in range(2)
    ]
    for process in group:
        process.start()
    assert [finish(process) for process in group] == [0, 0]


def test_ring_can_be_compressed(train: Train, tmp_path: Path) -> None:
    """Rounded gradients move the weights a little; if the hook were dropped, nothing would differ."""
    job = [*JOB[:2], "model.hidden=[16]"]
    plain = run_group(tmp_path / "plain", job, 2).checkpoint()["state_dict"]
    rounded = run_group(tmp_path / "rounded", [*job, "trainer.compress=fp16"], 2).checkpoint()["state_dict"]
    differences = torch.cat([(plain[name] - rounded[name]).abs().reshape(-1) for name in plain])
    assert 0 < differences.max() < 1e-2


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=7), st.integers(1, 3))
def test_by_size_is_within_four_thirds_of_the_best_load(sizes: list[int], servers: int) -> None:
    best = min(largest_load(sizes, owners) for owners in product(range(servers), repeat=len(sizes)))
    assert largest_load(sizes, place_parameters(sizes, servers, "by_size")) <= 4 / 3 * best


def largest_load(sizes: list[int], owners: Sequence[int]) -> int:
    pairs = list(zip(sizes, owners, strict=True))
    return max(sum(size for size, owner in pairs if owner == server) for server in set(owners))


def test_round_robin_deals_out_in_order() -> None:
    assert place_parameters([5, 5, 5, 5, 5], 2, "round_robin") == [0, 1, 0, 1, 0]
