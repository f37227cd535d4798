"""`trainer.method=ring`: every rank averages its gradients with all others."""

from __future__ import annotations

from typing import Literal

import torch
from pytorch_lightning.strategies import DDPStrategy
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

from tempo.distributed.local_group import join_local_group

Compress = Literal["fp16", "bf16"]
Backend = Literal["gloo", "nccl"]
COMPRESSED_DTYPE = {"fp16": torch.float16, "bf16": torch.bfloat16}
_RING_HOOKS = {"fp16": default_hooks.fp16_compress_hook, "bf16": default_hooks.bf16_compress_hook}


class HookedDDPStrategy(DDPStrategy):
    """DistributedDataParallel with a communication hook, also on a CPU.

    Lightning registers a hook only on GPUs and silently drops it elsewhere, so subclasses register theirs in
    `register_hook`. Running statistics are averaged once before each evaluation instead of being broadcast at
    every step.
    """

    def __init__(
        self,
        *,
        compress: Compress | None = None,
        process_group_backend: Backend | None = None,
        find_unused_parameters: bool = False,
    ) -> None:
        super().__init__(
            process_group_backend=process_group_backend,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
            find_unused_parameters=find_unused_parameters,
        )
        self.compress = compress

    def setup_environment(self) -> None:
        """Join the group of this machine, if tempo started it; Lightning would join one over the network."""
        join_local_group(self.root_device, self.process_group_backend)
        super().setup_environment()

    def configure_ddp(self) -> None:
        """Wrap the network and register the hook."""
        super().configure_ddp()
        assert isinstance(self.model, DistributedDataParallel)
        self.register_hook(self.model)

    def register_hook(self, network: DistributedDataParallel) -> None:
        """Set how the wrapped network exchanges gradients."""
        raise NotImplementedError


class RingStrategy(HookedDDPStrategy):
    """All-reduce: a ring or tree on NCCL; gloo picks its own algorithm."""

    def register_hook(self, network: DistributedDataParallel) -> None:
        """Keep DDP's all-reduce, or have it send gradients of two bytes per element."""
        if self.compress is not None:
            network.register_comm_hook(None, _RING_HOOKS[self.compress])
