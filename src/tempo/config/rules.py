"""The rules between fields of a configuration: numbers in their ranges, and what needs what."""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Mapping
from typing import Any

from tempo.config.parallel_rules import check_exchange, check_sharding
from tempo.config.run_length import planned_images
from tempo.data.sizes import check_batch_size, check_val_size
from tempo.distributed.exchange import exchange_of
from tempo.errors import UserError
from tempo.optimizer.traits import traits_of
from tempo.scheduler.build import build_schedule
from tempo.scheduler.schedule import MOMENTUM_OFF, check_momentum

Config = Mapping[str, Any]
MOST_COUNT = 2**31 - 1
MOST_THREADS = 1024
MOST_NAME_BYTES = 120
"""A file system's 255 for a name, less the time and the process that a run's folder has beside it."""


def check_rules(config: Config) -> None:
    """Raise the first rule that a configuration of right types breaks.

    Raises:
        UserError: one line with the value, the reason and the override that mends it.
    """
    ranges = (_name, _beginning, _seeds, _training_length, _devices, _batches, check_sharding, _compression)
    rules = (*ranges, check_exchange, _schedule, _closure, _graph, _averaging, _objective)
    for rule in rules:
        rule(config)


def _name(config: Config) -> None:
    name = config["name"]
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


def _beginning(config: Config) -> None:
    beginning = config.get("init_from")
    if beginning is not None and not beginning.strip():  # a shell's variable that was not set
        raise UserError("init_from= names no folder: init_from=<folder of a run>, or leave it out")


def _seeds(config: Config) -> None:
    for key, seed in (("seed", config["seed"]), ("data.split_seed", config["data"]["split_seed"])):
        if not 0 <= seed < 2**32:
            raise UserError(f"{key}={seed} is outside [0, 2**32), where generators take their seeds: {key}=0")


def _training_length(config: Config) -> None:
    trainer = config["trainer"]
    counts = ("epochs", "max_steps", "accumulate", "threads", "val_every_n_epochs", "test_every_n_epochs")
    for key in (*counts, "log_every_n_steps"):
        _at_least(trainer[key], 1, f"trainer.{key}")
    _at_least(trainer.get("lr_reference_batch"), 1, "trainer.lr_reference_batch")
    if (trainer["threads"] or 1) > MOST_THREADS:
        raise UserError(
            f"trainer.threads={trainer['threads']} is more than {MOST_THREADS}: trainer.threads=null"
        )
    _at_least(trainer["gradient_clip"], 0, "trainer.gradient_clip", strictly=True)
    for key in ("limit_train_steps", "limit_eval_batches"):
        _at_least(trainer[key], 1, f"trainer.{key}")
    if trainer["steps_per_call"] != "auto":
        _at_least(trainer["steps_per_call"], 1, "trainer.steps_per_call")
    _at_least(config["checkpoint"]["keep_best"], 1, "checkpoint.keep_best")
    _at_least(config["checkpoint"]["every_n_steps"], 1, "checkpoint.every_n_steps")
    _at_least(config["checkpoint"]["every_n_minutes"], 0, "checkpoint.every_n_minutes", strictly=True)
    _at_least(config["early_stopping"]["patience"], 1, "early_stopping.patience")
    _at_least(config["early_stopping"]["min_delta"], 0, "early_stopping.min_delta")
    _at_least(config["divergence"]["factor"], 1, "divergence.factor", strictly=True)
    decay = config["ema"]["decay"]
    if decay is not None and not 0 < decay < 1:
        raise UserError(f"ema.decay={decay} is outside (0, 1): e.g. ema.decay=0.999")


def _batches(config: Config) -> None:
    data, trainer = config["data"], config["trainer"]
    _at_least(data["total_batch_size"], 1, "data.total_batch_size")
    _at_least(data["eval_batch_size"], 1, "data.eval_batch_size")
    _at_least(data["train_size"], 1, "data.train_size")
    for key in ("crop_padding", "cutout"):
        _at_least(data["augment"][key], 0, f"data.augment.{key}")
    check_val_size(data["val_size"])
    check_batch_size(
        data["total_batch_size"],
        devices=math.prod(exchange_of(trainer).batch_layout),
        accumulate=trainer["accumulate"],
        images=planned_images(config),
    )


def _schedule(config: Config) -> None:
    optimizer = config["optimizer"]
    kind = optimizer["_target_"].rpartition(".")[2]
    check_momentum(build_schedule(config["scheduler"]), kind, optimizer.get("momentum"))


def _compression(config: Config) -> None:
    trainer = config["trainer"]
    if (kind := trainer.get("compress")) is None:
        return
    if trainer["devices"] * trainer["num_nodes"] == 1:
        raise UserError(
            f"trainer.compress={kind} is of gradients that processes exchange, and there is one: "
            "trainer.compress=null, or trainer=ddp_cpu trainer.devices=2"
        )
    if trainer["precision"] == "bf16-true":
        raise UserError(
            f"trainer.compress={kind} with trainer.precision=bf16-true: gradients have 16 bits already: "
            "trainer.compress=null"
        )
    if trainer["precision"] == "64-true":
        raise UserError(
            f"trainer.compress={kind} rounds the float64 that trainer.precision=64-true asks for: "
            "trainer.compress=null, or trainer.precision=32-true"
        )


def _closure(config: Config) -> None:
    target, trainer = config["optimizer"]["_target_"], config["trainer"]
    traits = traits_of(target)
    if not traits.needs_closure:
        return
    kind = target.rpartition(".")[2]
    if trainer["precision"] == "16-mixed":
        raise UserError(
            f"trainer.precision=16-mixed scales the loss that the line search of {kind} compares: "
            "trainer.precision=32-true"
        )
    if trainer["gradient_clip"] is not None:
        raise UserError(
            f"trainer.gradient_clip={trainer['gradient_clip']} gives {kind} a gradient that is not the slope "
            "of its loss: trainer.gradient_clip=null"
        )
    if not traits.takes_second_derivatives:
        return
    if (devices := trainer["devices"] * trainer["num_nodes"]) > 1:
        raise UserError(
            f"trainer.devices={devices}: {kind} takes second derivatives, which several processes do not "
            "exchange: trainer.devices=1, or optimizer=lbfgs"
        )
    if trainer["compile"]:
        raise UserError(
            f"trainer.compile=true: {kind} takes second derivatives, which compiled networks do not have: "
            "trainer.compile=false"
        )


def _graph(config: Config) -> None:
    trainer = config["trainer"]
    if trainer.get("cuda_graph") is not True:
        return
    kind = config["optimizer"]["_target_"]
    if trainer["accelerator"] in ("cpu", "mps"):
        why = f"needs an NVIDIA GPU, and trainer.accelerator={trainer['accelerator']}"
    elif trainer["devices"] * trainer["num_nodes"] > 1:
        why = "records the steps of one process, which exchanges no gradients with others"
    elif trainer["precision"] not in ("32-true", "bf16-mixed"):
        why = f"takes steps of trainer.precision=32-true and bf16-mixed, none of {trainer['precision']}"
    elif trainer["profiler"] is not None:
        why = f"leaves the steps nothing that trainer.profiler={trainer['profiler']} could look at"
    elif traits_of(kind).needs_closure:
        why = f"is of steps with one pass over a batch, and {kind.rpartition('.')[2]} makes several"
    else:
        return
    raise UserError(f"trainer.cuda_graph=true {why}: trainer.cuda_graph=auto")


def _averaging(config: Config) -> None:
    if not traits_of(config["optimizer"]["_target_"]).averages_weights:
        return
    if config["optimizer"].get("momentum") == 0:
        raise UserError(
            "optimizer.momentum=0: this optimizer finds its average by a division by momentum: "
            "optimizer.momentum=0.9"
        )
    if config["ema"]["decay"] is not None:
        raise UserError(
            f"ema.decay={config['ema']['decay']}: this optimizer averages its weights itself: ema.decay=null"
        )
    if build_schedule(config["scheduler"]).moves_momentum:
        raise UserError(
            "the schedule changes momentum, by which this optimizer mixes its weights; "
            f"set {MOMENTUM_OFF}, or scheduler=constant"
        )


def _objective(config: Config) -> None:
    split = config["objective"].split("/")[0]
    if config["data"]["val_size"] == 0:
        if split == "val":
            raise UserError(
                f"objective={config['objective']} needs validation images, and data.val_size=0: "
                "data.val_size=0.1, or objective=test/accuracy checkpoint.select=last"
            )
        if config["checkpoint"]["select"] == "best":
            raise UserError(
                "checkpoint.select=best needs validation images, and data.val_size=0: checkpoint.select=last"
            )
        if config["early_stopping"]["patience"] is not None:
            raise UserError(
                "early_stopping.patience needs validation images, and data.val_size=0: data.val_size=0.1"
            )


def _devices(config: Config) -> None:
    trainer = config["trainer"]
    for key in ("devices", "num_nodes"):
        _at_least(trainer[key], 1, f"trainer.{key}")
    if trainer.get("energy") and importlib.util.find_spec("codecarbon") is None:
        raise UserError("trainer.energy=true needs the package codecarbon: pip install -e '.[energy]'")
    if trainer["backend"] == "nccl" and trainer["accelerator"] == "cpu":
        raise UserError("trainer.backend=nccl needs GPUs, and trainer.accelerator=cpu: trainer.backend=gloo")


def _at_least(value: float | None, least: float, where: str, strictly: bool = False) -> None:
    if value is None:
        return
    if isinstance(value, int) and value > MOST_COUNT:
        raise UserError(f"{where}={value} is more than anything here counts to: at most {where}={MOST_COUNT}")
    if isinstance(value, float) and math.isinf(value) and value > 0:
        raise UserError(f"{where}={value} must be finite: give {where}=<number>")
    if value < least or (strictly and value == least):
        bound = f"{'above' if strictly else 'at least'} {least}"
        raise UserError(f"{where}={value} must be {bound}: e.g. {where}={least + strictly:g}")
