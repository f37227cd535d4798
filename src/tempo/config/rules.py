"""The rules between fields of a configuration: numbers in their ranges, and what needs what."""

from __future__ import annotations

import importlib.util
import math
import re

from tempo.config.parallel_rules import check_exchange, check_sharding
from tempo.config.run_length import planned_images
from tempo.config.schema import RunConfig
from tempo.data.sizes import check_batch_size, check_val_size
from tempo.errors import UserError
from tempo.optimizer.traits import traits_of
from tempo.scheduler.build import build_schedule
from tempo.scheduler.schedule import MOMENTUM_OFF, check_momentum

MOST_NAME_BYTES = 120
"""A file system's 255 for a name, less the time and the process that a run's folder has beside it."""


def check_rules(config: RunConfig) -> None:
    """Raise the first rule that a configuration of right types breaks.

    Raises:
        UserError: one line with the value, the reason and the override that mends it.
    """
    rules = (_name, _init_from, _devices, _batches, check_sharding, _compression, check_exchange)
    for rule in (*rules, _schedule, _closure, _graph, _averaging, _objective):
        rule(config)


def _name(config: RunConfig) -> None:
    name = config.name
    if (
        not name.strip()
        or not name.isprintable()
        or re.search(r"[/\\]", name)
        or len(name.encode()) > MOST_NAME_BYTES
    ):
        raise UserError(
            f"name={name[:40]!r} is part of a folder's name: 1 to {MOST_NAME_BYTES} bytes without / or line "
            "break, e.g. name=first_try"
        )


def _init_from(config: RunConfig) -> None:
    beginning = config.init_from
    if beginning is not None and not beginning.strip():  # a shell's variable that was not set
        raise UserError("init_from= names no folder: init_from=<folder of a run>, or leave it out")


def _batches(config: RunConfig) -> None:
    data, trainer = config.data, config.trainer
    check_val_size(data.val_size)
    check_batch_size(
        data.total_batch_size,
        devices=math.prod(trainer.exchange.batch_layout),
        accumulate=trainer.accumulate,
        images=planned_images(config),
    )


def _schedule(config: RunConfig) -> None:
    optimizer = config.optimizer
    kind = optimizer.target.rpartition(".")[2]
    check_momentum(build_schedule(config.scheduler.node), kind, optimizer.get("momentum"))


def _compression(config: RunConfig) -> None:
    trainer = config.trainer
    if (kind := trainer.compress) is None:
        return
    if trainer.processes == 1:
        raise UserError(
            f"trainer.compress={kind} is of gradients that processes exchange, and there is one: "
            "trainer.compress=null, or trainer=ddp_cpu trainer.devices=2"
        )
    if trainer.precision == "bf16-true":
        raise UserError(
            f"trainer.compress={kind} with trainer.precision=bf16-true: gradients have 16 bits already: "
            "trainer.compress=null"
        )
    if trainer.precision == "64-true":
        raise UserError(
            f"trainer.compress={kind} rounds the float64 that trainer.precision=64-true asks for: "
            "trainer.compress=null, or trainer.precision=32-true"
        )


def _closure(config: RunConfig) -> None:
    target, trainer = config.optimizer.target, config.trainer
    traits = traits_of(target)
    if not traits.needs_closure:
        return
    kind = target.rpartition(".")[2]
    if trainer.precision == "16-mixed":
        raise UserError(
            f"trainer.precision=16-mixed scales the loss that the line search of {kind} compares: "
            "trainer.precision=32-true"
        )
    if trainer.gradient_clip is not None:
        raise UserError(
            f"trainer.gradient_clip={trainer.gradient_clip} gives {kind} a gradient that is not the slope "
            "of its loss: trainer.gradient_clip=null"
        )
    if not traits.takes_second_derivatives:
        return
    if (devices := trainer.processes) > 1:
        raise UserError(
            f"trainer.devices={devices}: {kind} takes second derivatives, which several processes do not "
            "exchange: trainer.devices=1, or optimizer=lbfgs"
        )
    if trainer.compile:
        raise UserError(
            f"trainer.compile=true: {kind} takes second derivatives, which compiled networks do not have: "
            "trainer.compile=false"
        )


def _graph(config: RunConfig) -> None:
    trainer = config.trainer
    if trainer.cuda_graph is not True:
        return
    kind = config.optimizer.target
    if trainer.accelerator in ("cpu", "mps"):
        why = f"needs an NVIDIA GPU, and trainer.accelerator={trainer.accelerator}"
    elif trainer.processes > 1:
        why = "records the steps of one process, which exchanges no gradients with others"
    elif trainer.precision not in ("32-true", "bf16-mixed"):
        why = f"takes steps of trainer.precision=32-true and bf16-mixed, none of {trainer.precision}"
    elif trainer.profiler is not None:
        why = f"leaves the steps nothing that trainer.profiler={trainer.profiler} could look at"
    elif traits_of(kind).needs_closure:
        why = f"is of steps with one pass over a batch, and {kind.rpartition('.')[2]} makes several"
    else:
        return
    raise UserError(f"trainer.cuda_graph=true {why}: trainer.cuda_graph=auto")


def _averaging(config: RunConfig) -> None:
    if not traits_of(config.optimizer.target).averages_weights:
        return
    if config.optimizer.get("momentum") == 0:
        raise UserError(
            "optimizer.momentum=0: this optimizer finds its average by a division by momentum: "
            "optimizer.momentum=0.9"
        )
    if config.ema.decay is not None:
        raise UserError(
            f"ema.decay={config.ema.decay}: this optimizer averages its weights itself: ema.decay=null"
        )
    if build_schedule(config.scheduler.node).moves_momentum:
        raise UserError(
            "the schedule changes momentum, by which this optimizer mixes its weights; "
            f"set {MOMENTUM_OFF}, or scheduler=constant"
        )


def _objective(config: RunConfig) -> None:
    split = config.objective.split("/")[0]
    if config.data.val_size == 0:
        if split == "val":
            raise UserError(
                f"objective={config.objective} needs validation images, and data.val_size=0: "
                "data.val_size=0.1, or objective=test/accuracy checkpoint.select=last"
            )
        if config.checkpoint.select == "best":
            raise UserError(
                "checkpoint.select=best needs validation images, and data.val_size=0: checkpoint.select=last"
            )
        if config.early_stopping.patience is not None:
            raise UserError(
                "early_stopping.patience needs validation images, and data.val_size=0: data.val_size=0.1"
            )


def _devices(config: RunConfig) -> None:
    trainer = config.trainer
    if trainer.energy and importlib.util.find_spec("codecarbon") is None:
        raise UserError("trainer.energy=true needs the package codecarbon: pip install -e '.[energy]'")
    if trainer.backend == "nccl" and trainer.accelerator == "cpu":
        raise UserError("trainer.backend=nccl needs GPUs, and trainer.accelerator=cpu: trainer.backend=gloo")
