"""The processes of a test of FSDP2: one group for all optimizers, as starting one takes long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh

from tempo.config.rules_for_processes import fused_for_parts
from tempo.distributed import fsdp2
from tempo.distributed.fsdp2 import own_parts, split_optimizer_state, whole
from tempo.optimizer.build import build_optimizer

STEPS = 4
CLIP = 0.05
"""Below the norm of every gradient here."""


def network() -> nn.Module:
    """Convolution, normalisation, matrices; parameters in float64."""
    torch.manual_seed(0)
    head = [nn.Flatten(), nn.Linear(8 * 36, 24), nn.ReLU(), nn.Linear(24, 5)]
    model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), *head)
    return model.double().to(memory_format=torch.channels_last)


def batch(rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images `[4, 3, 8, 8]` and labels of one rank."""
    torch.manual_seed(1 + rank)
    return torch.randn(4, 3, 8, 8, dtype=torch.float64), torch.randint(0, 5, (4,))


def train(settings: Mapping[str, Any], rank: int, split: fsdp2.ShardedStrategy | None) -> dict[str, Any]:
    """Return whole weights and optimizer state after some clipped steps on two ranks' images."""
    model = network()
    if split is not None:
        split.shard(model)
        settings = {**settings, "fused": fused_for_parts(settings)} if "fused" in settings else settings
    optimizer = build_optimizer(model, settings)
    for step in range(STEPS):
        optimizer.zero_grad()
        images, labels = batch(rank)
        nn.functional.cross_entropy(model(images), labels).backward()
        if split is None:
            for parameter in model.parameters():
                distributed.all_reduce(parameter.grad)
                parameter.grad /= distributed.get_world_size()
        norm = nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        assert float(whole(norm)) > CLIP
        optimizer.step()
        if step == 1:  # as a resumed run would load it
            saved = whole(optimizer.state_dict())
            optimizer = build_optimizer(model, settings)
            optimizer.load_state_dict(split_optimizer_state(optimizer, saved))
    states = [value for state in optimizer.state.values() for value in state.values()]
    held = [value for value in states if isinstance(value, torch.Tensor)] + list(model.parameters())
    return {
        "weights": whole(model.state_dict()),
        "optimizer": whole(optimizer.state_dict()),
        "elements": sum(part.numel() for part in own_parts(held)),
    }


def main(rank: int, folder: str, least_unit: int, options: Sequence[Mapping[str, Any]]) -> None:
    """Train with each option, whole and split, and write both results to a file."""
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    fsdp2.LEAST_UNIT = least_unit
    strategy = fsdp2.ShardedStrategy(processes=2)
    strategy._device_mesh = init_device_mesh(
        "cpu", (2, 1), mesh_dim_names=("data_parallel", "tensor_parallel")
    )
    results = [(train(option, rank, None), train(option, rank, strategy)) for option in options]
    torch.save(results, Path(folder) / f"rank{rank}.pt")
    distributed.destroy_process_group()
