"""`trainer=fsdp2`: parameters, gradients and optimizer states split over processes, for large networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from tempo.distributed.local_group import join_local_group
from tempo.distributed.ring import COMPRESSED_DTYPE, Backend, Compress

LEAST_UNIT = 1 << 20
"""Smallest number of parameters that is gathered separately; smaller units would cost too much latency."""
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
"""Modules that are never units: a network may iterate over them, and only a call gathers parameters."""
_INDIVISIBLE = (nn.MultiheadAttention,)
"""Modules that read a child's weights without calling the child, so children cannot be units."""


class ShardedStrategy(ModelParallelStrategy):
    """Fully sharded data parallelism, torch's FSDP2: each of N processes holds 1/N of every parameter.

    A unit's parameters are gathered for its forward pass and again for its backward pass, which averages and
    splits its gradients; each process then steps its own part. `compress` is the type in which gradients
    are sent. Checkpoints hold whole values, as a single process or a DDP run would write them; rank 0 gathers
    them in host memory one tensor at a time.

    Source: Zhao et al. 2023, *PyTorch FSDP*, arXiv:2304.11277; Rajbhandari et al. 2020, *ZeRO: Memory
    Optimizations Toward Training Trillion Parameter Models*, arXiv:1910.02054.
    """

    def __init__(
        self,
        *,
        processes: int,
        compress: Compress | None = None,
        process_group_backend: Backend | None = None,
    ) -> None:
        super().__init__(
            data_parallel_size=processes,
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,
            process_group_backend=process_group_backend,
        )
        self.compress = compress

    def setup_environment(self) -> None:
        """Join the group of this machine, if tempo started it; Lightning would join one over the network."""
        join_local_group(self.root_device, self.process_group_backend)
        super().setup_environment()

    def shard(self, network: nn.Module) -> None:
        """Split a network's parameters in place, unless they are split already."""
        if isinstance(network, FSDPModule):
            return
        for parameter in network.parameters():
            parameter.data = parameter.data.contiguous()  # FSDP splits rows, which channels_last scatters
        reduce_dtype = None if self.compress is None else COMPRESSED_DTYPE[self.compress]
        policy = MixedPrecisionPolicy(reduce_dtype=reduce_dtype)
        for unit in units(network, LEAST_UNIT):
            # Also reshard the outermost unit: a gathered copy kept after a step would have old values.
            fully_shard(
                unit, mesh=self.device_mesh["data_parallel"], mp_policy=policy, reshard_after_forward=True
            )

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Whether Lightning restores optimizers from the result of `load_checkpoint`: always."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return whole values on rank 0, and empty tensors under the same names on the others."""
        assert self.lightning_module is not None
        state: dict[str, Any] = whole(self.lightning_module.state_dict(), keep=self.is_global_zero)
        return state

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Return whole values on rank 0, in the form of a single process's optimizer."""
        state: dict[str, Any] = whole(optimizer.state_dict(), keep=self.is_global_zero)
        return state

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Write the file on rank 0."""
        if self.is_global_zero:
            self.checkpoint_io.save_checkpoint(checkpoint, filepath)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Return the file's content, on every rank."""
        content: dict[str, Any] = self.checkpoint_io.load_checkpoint(checkpoint_path)
        return content

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Give each process its part of the parameters."""
        assert self.lightning_module is not None
        load_whole(self.lightning_module, checkpoint["state_dict"], strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Give each process its part of the optimizer states."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            optimizer.load_state_dict(split_optimizer_state(optimizer, state))


def units(network: nn.Module, least: int) -> list[nn.Module]:
    """Return the modules that are gathered separately: inner ones first, the network last.

    A module is a unit if it has at least `least` parameters that are not in a unit inside it.
    """
    found: list[nn.Module] = []
    seen: set[int] = set()

    def parameters_left(module: nn.Module) -> int:
        # A network may use one module in several places.
        if id(module) in seen:
            return 0
        seen.add(id(module))
        if isinstance(module, _INDIVISIBLE):
            count = sum(parameter.numel() for parameter in module.parameters())
        else:
            count = sum(parameter.numel() for parameter in module.parameters(recurse=False))
            count += sum(map(parameters_left, module.children()))
        if count < least or isinstance(module, _CONTAINERS) or module is network:
            return count
        found.append(module)
        return 0

    parameters_left(network)
    return [*found, network]


def whole(values: Any, *, keep: bool = True) -> Any:
    """Return nested dicts, lists and tensors with every split tensor gathered into host memory.

    This is a collective operation: all ranks must call it on the same structure. Without `keep`, a rank only
    sends its parts and gets empty tensors.
    """
    if isinstance(values, DTensor):
        gathered: Tensor = values.full_tensor().detach()
        return gathered.cpu() if keep else torch.empty(0)
    if isinstance(values, Mapping):
        return {name: whole(value, keep=keep) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return type(values)(whole(value, keep=keep) for value in values)
    return values


def own_parts(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return this process's part of each tensor; return a tensor that is not split unchanged."""
    return [value.to_local() if isinstance(value, DTensor) else value for value in tensors]


def load_whole(module: nn.Module, state: Mapping[str, Any], *, strict: bool = True) -> None:
    """Load whole values into a module, split or not; raise RuntimeError as `load_state_dict` does."""
    own = module.state_dict()
    split = {name: _split_like(value, own.get(name)) for name, value in state.items()}
    module.load_state_dict(split, strict=strict)


def split_optimizer_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return this process's part of an optimizer's whole state, split like its parameters."""
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    parameter_of = dict(zip(numbers, parameters, strict=True))
    return {
        **state,
        "state": {
            number: {name: _split_like(value, parameter_of[number]) for name, value in values.items()}
            for number, values in state["state"].items()
        },
    }


def _split_like(value: Any, other: Any) -> Any:
    """Split `value` like `other` if the shapes agree; a step count, for example, has another shape."""
    if not isinstance(other, DTensor) or not isinstance(value, Tensor) or value.shape != other.shape:
        return value
    # All ranks have read the same file, so nothing needs to be sent.
    there = value.to(other.device)
    return distribute_tensor(there, other.device_mesh, other.placements, src_data_rank=None)
