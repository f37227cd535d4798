"""A synchronous parameter server gives DDP's weights, and moves a star's bytes."""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from tempo.distributed.sync_server import ServerSettings, Star
from tempo.record.run_json import RunRecord
from tests.conftest import Train, Trained
from tests.jobs import SMALL, finish, start_group

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
def test_weights_of_one_process(
    devices: int,
    optimizer: list[str],
    server: list[str],
    train: Train,
    tmp_path: Path,
    parameters_bytes: int,
) -> None:
    whole = train(*JOB, *optimizer, folder="one")
    star = run_group(tmp_path / "star", [*JOB, *optimizer, "trainer.method=ps_sync", *server], devices)
    expected = whole.checkpoint()
    found = star.checkpoint()
    for name, value in found["state_dict"].items():
        torch.testing.assert_close(value, expected["state_dict"][name], rtol=0, atol=1e-10, msg=name)
    # The checkpoint has the state of every variable, wherever it was stepped.
    state = found["optimizer_states"][0]["state"]
    assert state.keys() == expected["optimizer_states"][0]["state"].keys()
    for number, values in expected["optimizer_states"][0]["state"].items():
        for name, value in values.items():
            torch.testing.assert_close(state[number][name], value, rtol=0, atol=1e-10)
    if server[-1].startswith("server.reply"):  # one server: all others' gradients in, all parameters out
        every_step = (devices - 1) * parameters_bytes
        assert star.record.exchange == {
            "sent_bytes_per_step": every_step,
            "received_bytes_per_step": every_step,
        }


def test_compression_halves_the_bytes(tmp_path: Path, parameters_bytes: int) -> None:
    job = [*JOB[:2], "model.hidden=[16]", "trainer.method=ps_sync", "server.reply=gradients"]
    star = run_group(tmp_path / "star", [*job, "trainer.compress=bf16"], 2)
    assert star.record.status == "completed"
    assert star.record.exchange["sent_bytes_per_step"] == parameters_bytes / 8 * 2


def _average_large_gradients(rank: int, store: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    network = DistributedDataParallel(torch.nn.Linear(3, 1, bias=False))
    parameters = list(network.parameters())
    settings = ServerSettings(count=1, placement="by_size", reply="gradients")
    star = Star(parameters, settings, torch.float16)
    network.register_comm_hook(None, lambda state, bucket: star.hook(state, bucket))  # noqa: PLW0108
    network(torch.tensor([[40_960.0, 49_152.0 + 8_192 * rank, -61_440.0]])).sum().backward()
    found = parameters[0].grad
    distributed.destroy_process_group()
    sys.exit(0 if torch.equal(found, torch.tensor([[40_960.0, 53_248.0, -61_440.0]])) else str(found))


def test_a_compressed_sum_does_not_overflow(tmp_path: Path) -> None:
    """float16 ends at 65,504: every sum here is above, no mean is."""
    context = multiprocessing.get_context("forkserver")
    group = [
        context.Process(target=_average_large_gradients, args=(rank, str(tmp_path / "store")))
        for rank in range(2)
    ]
    for each in group:
        each.start()
    assert [finish(each) for each in group] == [0, 0]


def test_ring_can_be_compressed(train: Train, tmp_path: Path) -> None:
    """Rounded gradients move the weights a little: were the hook dropped, nothing would differ."""
    job = [*JOB[:2], "model.hidden=[16]"]
    plain = run_group(tmp_path / "plain", job, 2).checkpoint()["state_dict"]
    rounded = run_group(tmp_path / "rounded", [*job, "trainer.compress=fp16"], 2).checkpoint()["state_dict"]
    differences = torch.cat([(plain[name] - rounded[name]).abs().reshape(-1) for name in plain])
    assert 0 < differences.max() < 1e-2


def test_a_hook_that_raises_is_noticed_on_the_cpu(tmp_path: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        network = DistributedDataParallel(torch.nn.Linear(2, 2))

        def hook(state: object, bucket: object) -> None:
            raise RuntimeError("the server is gone")

        network.register_comm_hook(None, lambda state, bucket: hook(state, bucket))  # noqa: PLW0108
        with pytest.raises(RuntimeError, match="the server is gone"):
            network(torch.ones(1, 2)).sum().backward()
    finally:
        distributed.destroy_process_group()
