"""Lightning strategies whose gradients travel as `trainer.method` and `trainer.compress` say."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pytorch_lightning.strategies import DDPStrategy
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

from tempo.distributed.sync_server import ServerSettings, Star

WIRE = {"fp16": torch.float16, "bf16": torch.bfloat16}
_RING_HOOKS = {"fp16": default_hooks.fp16_compress_hook, "bf16": default_hooks.bf16_compress_hook}
Compress = Literal["fp16", "bf16"]


class RingStrategy(DDPStrategy):
    """DistributedDataParallel: ring all-reduce on NCCL; gloo picks its own algorithm."""

    def __init__(self, *, compress: Compress | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.compress = compress

    def configure_ddp(self) -> None:
        """Wrap the network; Lightning registers hooks on GPUs alone, and says nothing on a CPU."""
        super().configure_ddp()
        hook_ring(_wrapped(self), self.compress)


class StarStrategy(DDPStrategy):
    """DistributedDataParallel whose gradients go through a synchronous parameter server."""

    def __init__(
        self, *, servers: ServerSettings, compress: Compress | None = None, **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        self.servers = servers
        self.steps = 0
        self.compress = compress

    def configure_ddp(self) -> None:
        """Wrap the network and put the star in the place of the all-reduce."""
        super().configure_ddp()
        self.star = hook_star(_wrapped(self), self.servers, self.compress)

    def optimizer_step(self, optimizer: torch.optim.Optimizer, *arguments: Any, **named: Any) -> Any:
        """Step everywhere, or at each variable's server alone."""
        self.steps += 1
        if self.servers.reply == "gradients":
            return super().optimizer_step(optimizer, *arguments, **named)
        self.star.keep_own_gradients()
        result = super().optimizer_step(optimizer, *arguments, **named)
        self.star.send_parameters()
        return result

    @property
    def exchange(self) -> dict[str, float]:
        """Bytes a step of this rank."""
        steps = max(1, self.steps)
        return {
            "sent_bytes_per_step": self.star.sent_bytes / steps,
            "received_bytes_per_step": self.star.received_bytes / steps,
        }

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """The whole state, gathered from the servers, so that a checkpoint fits any layout."""
        state: dict[str, Any] = super().optimizer_state(optimizer)
        if self.servers.reply == "parameters":
            state["state"] = self.star.gather_state(state["state"])
        return state


def hook_ring(network: DistributedDataParallel, compress: Compress | None) -> None:
    """Leave the all-reduce to the backend, of gradients as they are or in two bytes each."""
    if compress is not None:
        network.register_comm_hook(None, _RING_HOOKS[compress])


def hook_star(network: DistributedDataParallel, servers: ServerSettings, compress: Compress | None) -> Star:
    """Put a star in the place of the all-reduce."""
    trained = [each for each in network.parameters() if each.requires_grad]
    star = Star(trained, servers, None if compress is None else WIRE[compress])
    # torch wants the annotations of a hook as objects, and a method's are text here.
    network.register_comm_hook(None, lambda state, bucket: star.hook(state, bucket))  # noqa: PLW0108
    return star


def _wrapped(strategy: DDPStrategy) -> DistributedDataParallel:
    assert isinstance(strategy.model, DistributedDataParallel)
    return strategy.model
