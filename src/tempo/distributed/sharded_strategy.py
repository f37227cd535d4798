"""Networks that do not fit on one device: parameters, gradients and optimizer states split over processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from tempo.distributed.sharding import load_whole, split_optimizer_state, whole
from tempo.distributed.strategy import WIRE, Compress

LEAST_UNIT = 1 << 20
"""Parameters from which a part of the network is gathered by itself: smaller ones would pay in latency."""
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
"""Networks also walk through these without calling them, and only a call gathers their parameters."""
_INDIVISIBLE = (nn.MultiheadAttention,)
"""Reads a child's weights without calling the child."""


class ShardedStrategy(ModelParallelStrategy):
    """Fully sharded data parallelism, torch's FSDP2: each of N processes holds 1/N of every parameter.

    A unit's parameters are gathered for its forward pass and again for its backward pass, and its gradients
    are averaged and split on the way; each process then steps its own part. `compress` is the type in which
    gradients travel. Checkpoints hold whole values, gathered in rank 0's host memory one tensor at a time,
    and are what one process or a DDP run would write.

    Source: Zhao et al. 2023, *PyTorch FSDP*, arXiv:2304.11277; Rajbhandari et al. 2020, *ZeRO: Memory
    Optimizations Toward Training Trillion Parameter Models*, arXiv:1910.02054.
    """

    def __init__(
        self, *, processes: int, compress: Compress | None = None, process_group_backend: str | None = None
    ) -> None:
        super().__init__(
            data_parallel_size=processes,
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,
            process_group_backend=process_group_backend,
        )
        self.compress = compress

    def shard(self, network: nn.Module) -> None:
        """Split a network's parameters in place; one that is split stays as it is."""
        if isinstance(network, FSDPModule):
            return
        for parameter in network.parameters():
            parameter.data = parameter.data.contiguous()  # rows are what is split, not channels_last
        policy = MixedPrecisionPolicy(reduce_dtype=None if self.compress is None else WIRE[self.compress])
        for unit in units(network, LEAST_UNIT):
            # The outermost as well: no step brings a gathered copy up to date, so none may outlive a pass.
            fully_shard(
                unit, mesh=self.device_mesh["data_parallel"], mp_policy=policy, reshard_after_forward=True
            )

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Lightning restores optimizers from what `load_checkpoint` gives, as with every strategy of ours."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Whole values on rank 0, names alone on the others."""
        assert self.lightning_module is not None
        state: dict[str, Any] = whole(self.lightning_module.state_dict(), keep=self.is_global_zero)
        return state

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Whole values on rank 0, as an optimizer in one process has them."""
        state: dict[str, Any] = whole(optimizer.state_dict(), keep=self.is_global_zero)
        return state

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Write the file on rank 0."""
        if self.is_global_zero:
            self.checkpoint_io.save_checkpoint(checkpoint, filepath)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """The file's content, on every rank."""
        content: dict[str, Any] = self.checkpoint_io.load_checkpoint(checkpoint_path)
        return content

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Give each process its part."""
        assert self.lightning_module is not None
        load_whole(self.lightning_module, checkpoint["state_dict"])

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Give each process its part."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            optimizer.load_state_dict(split_optimizer_state(optimizer, state))


def units(network: nn.Module, least: int) -> list[nn.Module]:
    """The modules that are gathered by themselves, inner ones first, the network last.

    A module is one as soon as it has `least` parameters that no unit inside it has.
    """
    found: list[nn.Module] = []
    seen: set[int] = set()

    def rest(module: nn.Module) -> int:
        if id(module) in seen:
            return 0
        seen.add(id(module))
        if isinstance(module, _INDIVISIBLE):
            count = sum(each.numel() for each in module.parameters())
        else:
            count = sum(each.numel() for each in module.parameters(recurse=False))
            count += sum(map(rest, module.children()))
        if count < least or isinstance(module, _CONTAINERS) or module is network:
            return count
        found.append(module)
        return 0

    rest(network)
    return [*found, network]
