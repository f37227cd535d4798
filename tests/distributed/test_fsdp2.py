"""A network split over processes trains like a whole one, and each process holds its share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tempo.distributed.fsdp2 import units
from tests.distributed import fsdp2_ranks
from tests.jobs import compose_job, finish, fork_server, options

REFUSED = {"lbfgs", "bfgs", "newton_cg", "muon", "schedule_free"}


def assert_equal(found: Any, expected: Any, where: str = "") -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for name, value in expected.items():
            assert_equal(found[name], value, f"{where}.{name}")
    elif isinstance(expected, torch.Tensor):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10, msg=lambda text: f"{where}: {text}")


def test_every_optimizer_steps_parts_as_it_would_the_whole(tmp_path: Path) -> None:
    """Gradients are clipped by the norm over all parts; halfway the state is saved whole and split again."""
    names = [name for name in options("optimizer") if name not in REFUSED]
    settings = [compose_job([f"optimizer={name}"])[0]["optimizer"] for name in names]
    context = fork_server()
    arguments = (str(tmp_path), 1000, settings)
    group = [context.Process(target=fsdp2_ranks.main, args=(rank, *arguments)) for rank in range(2)]
    for process in group:
        process.start()
    assert [finish(process) for process in group] == [0, 0]
    for rank in range(2):
        results = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        for name, (plain, split) in zip(names, results, strict=True):
            running = [key for key in plain["weights"] if "running" in key]  # each rank sees other images
            assert len(running) == 2
            assert_equal(split["weights"], plain["weights"], name)
            assert_equal(split["optimizer"]["state"], plain["optimizer"]["state"], name)
            assert split["elements"] == pytest.approx(plain["elements"] / 2, rel=0.02), name


def test_units_are_the_modules_that_a_network_calls() -> None:
    block = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 2))
    attention = nn.MultiheadAttention(8, 2)
    network = nn.ModuleList([block, attention, nn.Linear(3, 3), nn.ReLU()])
    assert units(network, 100) == [block[0], attention, network]
    assert units(network, 1000) == [network]
