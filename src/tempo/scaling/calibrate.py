"""Measure one machine for the cost model: the computation of one worker, and one link."""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tempo.config.schema import RunConfig
from tempo.distributed.child_process import ChildProcess, exit_reason
from tempo.errors import UserError
from tempo.optimizer.build import build_optimizer
from tempo.run.build_network import build_network
from tempo.scaling.measured_point import of_this_machine
from tempo.scaling.network_link import Link, median_seconds
from tempo.scaling.plan import CHANNELS
from tempo.scaling.prediction import Calibration
from tempo.trainer.process_settings import set_numerics

_STEPS, _WARMUP_STEPS = 7, 2
_LINK_SECONDS = 120
_AUTOCAST = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}
_DTYPES = {"bf16-true": torch.bfloat16, "64-true": torch.float64}


def calibrate(
    config: RunConfig, images_per_worker: int, link: Link | None = None, command: str = ""
) -> Calibration:
    """Measure one worker of a run's configuration in this process, and the link unless it is given.

    T_f and T_opt are timed separately, and T_b is the rest of a step; all are medians of 7. `link` is the
    result of `tempo.scaling.network_link` between two hosts; without it, the link between two processes on
    this machine is measured.

    Raises:
        UserError: the two processes cannot connect.
    """
    trainer = config.trainer
    on_gpu = trainer.accelerator == "gpu" or (trainer.accelerator == "auto" and torch.cuda.is_available())
    device = torch.device("cuda" if on_gpu else "cpu")
    torch.set_num_threads(trainer.threads or 1)
    set_numerics(deterministic=trainer.deterministic, matmul_precision=trainer.matmul_precision)
    backend = trainer.backend or ("nccl" if on_gpu else "gloo")
    if on_gpu and torch.cuda.device_count() == 1:
        backend = "gloo"  # NCCL refuses two processes on one device
    link = link or link_of_this_machine(backend)
    worker = _Worker(config, images_per_worker, device)
    step_seconds = median_seconds(worker.step, _STEPS, _WARMUP_STEPS)
    forward_seconds = median_seconds(worker.forward, _STEPS, _WARMUP_STEPS)
    optimizer_seconds = median_seconds(worker.optimizer.step, _STEPS, _WARMUP_STEPS)
    sizes = [parameter.numel() for parameter in worker.network.parameters() if parameter.requires_grad]
    element_bytes = 2 if trainer.compress else worker.dtype.itemsize
    machine = of_this_machine() | ({"device": torch.cuda.get_device_name(device)} if on_gpu else {})
    return Calibration(
        model=config.name,
        images_per_worker=images_per_worker,
        image_size=config.data.source.arguments["image_size"],
        forward_seconds=forward_seconds,
        # Three medians of separate runs: their difference may come out below 0.
        backward_seconds=max(step_seconds - forward_seconds - optimizer_seconds, 0.0),
        optimizer_seconds=optimizer_seconds,
        apply_seconds=apply_seconds(sizes, config.optimizer.node),
        sizes=sizes,
        element_bytes=element_bytes,
        bytes_per_second=link.bytes_per_second,
        message_seconds=link.message_seconds,
        duplex=link.duplex,
        of_machine=machine
        | {
            "threads": trainer.threads or 1,
            "accelerator": "gpu" if on_gpu else "cpu",
            "backend": link.backend,
            "precision": trainer.precision,
            "command": command,
        },
    )


class _Worker:
    """Parts of a training step: a network, one batch of random images on its device, an optimizer."""

    def __init__(self, config: RunConfig, images: int, device: torch.device) -> None:
        trainer, data = config.trainer, config.data.source.arguments
        self.dtype = _DTYPES.get(trainer.precision, torch.float32)
        kind = _AUTOCAST.get(trainer.precision)
        self.autocast = nullcontext() if kind is None else torch.autocast(device.type, kind)
        layout = torch.channels_last if trainer.channels_last else torch.contiguous_format
        shape = (CHANNELS, data["image_size"], data["image_size"])
        self.network = build_network(config.model, config.seed, shape, data["classes"]).to(device, self.dtype)
        self.network.to(memory_format=layout)
        self.optimizer = build_optimizer(self.network, config.optimizer.node)
        self.images = torch.rand((images, *shape), device=device, dtype=self.dtype).to(memory_format=layout)
        self.labels = torch.randint(data["classes"], (images,), device=device)

    def forward(self) -> Tensor:
        with self.autocast:
            return F.cross_entropy(self.network(self.images), self.labels)

    def step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.forward().backward()
        self.optimizer.step()


def apply_seconds(sizes: list[int], settings: dict[str, Any]) -> float:
    """Measure t_apply, the optimizer's step on a server, which computes on the CPU."""
    held = nn.ParameterList(nn.Parameter(torch.zeros(size)) for size in sizes)
    for parameter in held:
        parameter.grad = torch.zeros_like(parameter)
    return median_seconds(build_optimizer(held, settings).step, _STEPS, _WARMUP_STEPS)


def link_of_this_machine(backend: str) -> Link:
    """Measure the link between two processes on this machine.

    Raises:
        UserError: the processes fail, or do not end.
    """
    with tempfile.TemporaryDirectory() as folder:
        path, log = Path(folder) / "link.json", Path(folder) / "log"
        starter = ["tempo.distributed.local_group", "2", "tempo.scaling.network_link", str(path), backend]
        variables = {**os.environ, "OMP_NUM_THREADS": "1"}
        with log.open("wb") as output:
            code = ChildProcess.run_module(
                *starter, environment=variables, stdout=output, stderr=output
            ).wait_at_most(_LINK_SECONDS)
        if code is None:
            raise UserError(
                f"two processes on this machine could not exchange messages over {backend} within "
                f"{_LINK_SECONDS} s; measure again when the machine is idle"
            )
        if code != 0:
            text = log.read_text(encoding="utf-8", errors="replace")
            reason = re.search(r"^[\w.]*Error: .*", text, re.MULTILINE)
            why = reason[0] if reason else exit_reason(code)
            raise UserError(f"the link over {backend} could not be measured: {why}")
        return Link.read(path)
