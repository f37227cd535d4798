"""Rules between keys, beyond the type and range that the schema gives each key."""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Iterator

from tempo.config import rules_for_processes
from tempo.config.hydra_targets import signature_of
from tempo.config.run_length import check_length, planned_images, planned_steps
from tempo.config.schema import RunConfig
from tempo.config.trainer_flags import broken_flags
from tempo.data.split_and_batch_sizes import check_batch_size, check_val_size
from tempo.errors import UserError, nearest
from tempo.optimizer.capabilities import traits_of
from tempo.record.metric_names import CLASSIFICATION_METRICS, SPLITS, metric_mode
from tempo.scheduler.build import build_schedule
from tempo.scheduler.schedule import MOMENTUM_OFF, check_momentum

MOST_NAME_BYTES = 120
"""Longest name of a run: file systems allow 255 bytes, and the folder's name adds a time and a process."""
PAPER_KEYS = ("source", "item", "metric", "mean", "sd", "says", "other_data", "rows", "claims")
Rules = Iterator[tuple[bool, str]]
"""Whether a rule is broken, and its message: value, reason, and an override that fixes it."""


def check_rules(config: RunConfig) -> None:
    """Raise UserError for the first rule that a correctly typed configuration breaks."""
    for rules in (
        _names,
        _metrics,
        _objective,
        _devices,
        _flags,
        _batches,
        rules_for_processes.sharding,
        _compression,
        rules_for_processes.exchange,
        _momentum,
        _length,
        _paper,
        _line_search,
        _cuda_graph,
        _averaging_optimizer,
        _validation,
    ):
        for is_broken, message in rules(config):
            if is_broken:
                raise UserError(message)


def _names(config: RunConfig) -> Rules:
    name, start = config.name, config.init_from
    in_path = name.strip() and name.isprintable() and not re.search(r"[/\\]", name)
    yield (
        not in_path or len(name.encode()) > MOST_NAME_BYTES,
        f"name={name[:40]!r} is part of a folder's name, which has 1 to {MOST_NAME_BYTES} bytes without / "
        "or line break; set e.g. name=first_try",
    )
    yield (
        start is not None and not start.strip(),  # a shell variable that was not set
        "init_from= does not name a folder; set init_from=<folder of a run>, or leave it out",
    )
    yield (
        config.init.ignore is not None and start is None,
        f"init.ignore={config.init.ignore} has no effect without init_from; set init_from=<file or folder>, "
        "or init.ignore=null",
    )
    for key, value, off in (("whiten", config.init.whiten, "null"), ("dirac", config.init.dirac, "false")):
        yield (
            bool(value) and start is not None,
            f"init.{key}={value} sets first weights that init_from={start} replaces; set init.{key}={off}, "
            "or init_from=null",
        )


def _metrics(config: RunConfig) -> Rules:
    names = config.metrics or ()
    for name in names:
        yield (
            name in ("loss", "accuracy"),
            f"metrics has {name}, which a classifier always has; leave it out, e.g. metrics=[f1]",
        )
        yield (
            name not in CLASSIFICATION_METRICS,
            f"metrics has {name!r}, which is unknown.{nearest(name.lower(), CLASSIFICATION_METRICS)} Choose "
            f"from: {', '.join(CLASSIFICATION_METRICS)}; e.g. metrics=[f1]",
        )
    once = list(dict.fromkeys(names))
    yield (
        len(once) < len(names),
        f"metrics=[{', '.join(names)}] has a metric twice; set metrics=[{','.join(once)}]",
    )


def _objective(config: RunConfig) -> Rules:
    objective = config.objective
    split, _, name = objective.partition("/")
    networks = {"input_shape", "num_classes"} <= (signature_of(config.model.target) or {}).keys()
    known = [f"{of}/{metric}" for of in SPLITS for metric in ("loss", "accuracy")]
    known += [f"{of}/{metric}" for of in ("val", "test") for metric in config.metrics or ()]
    yield (
        split not in SPLITS or not name or not name.isprintable() or name != name.strip(),
        f"objective={objective!r} is not <split>/<metric>, with a split of {', '.join(SPLITS)}."
        f"{nearest(objective, known)} Set e.g. objective=val/loss",
    )
    yield (
        networks and split != "train" and name in CLASSIFICATION_METRICS and objective not in known,
        f"objective={objective} is not computed; add "
        f"metrics=[{','.join([*(config.metrics or ()), name])}], or set objective={split}/accuracy",
    )
    yield (
        networks and objective not in known,
        f"objective={objective} is not a metric of a classifier.{nearest(objective, known)} "
        f"Set e.g. objective=val/accuracy. Known: {', '.join(known)}",
    )
    metric_mode(objective, config.objective_mode)


def _devices(config: RunConfig) -> Rules:
    trainer = config.trainer
    yield (
        trainer.energy and importlib.util.find_spec("codecarbon") is None,
        "trainer.energy=true needs the package codecarbon; run pip install -e '.[energy]'",
    )
    yield (
        trainer.backend == "nccl" and trainer.accelerator == "cpu",
        "trainer.backend=nccl needs GPUs, but trainer.accelerator=cpu; set trainer.backend=gloo",
    )


def _flags(config: RunConfig) -> Rules:
    yield from broken_flags(config.trainer.flags, config.trainer.accelerator)


def _batches(config: RunConfig) -> Rules:
    data, trainer = config.data, config.trainer
    check_val_size(data.val_size)
    yield (
        data.folds is not None and data.fold is None,
        f"data.folds={data.folds} does not say which part is validation; set data.fold=0, or "
        f"-m data.fold='range({data.folds})' for all",
    )
    yield (
        data.fold is not None and data.folds is None,
        f"data.fold={data.fold} is a part of data.folds, which is not set; set e.g. data.folds=5",
    )
    yield (
        data.folds is not None and data.fold is not None and data.fold >= data.folds,
        f"data.fold={data.fold} is not a part of data.folds={data.folds}, which are 0 .. "
        f"{(data.folds or 1) - 1}; set data.fold=0",
    )
    check_batch_size(
        data.total_batch_size,
        devices=math.prod(trainer.exchange.batch_layout),
        accumulate=trainer.accumulate,
        images=planned_images(config),
    )


def _compression(config: RunConfig) -> Rules:
    kind, trainer = config.trainer.compress, config.trainer
    if kind is None:
        return
    yield (
        trainer.processes == 1,
        f"trainer.compress={kind} compresses gradients exchanged between processes, but this run has only "
        "one; set trainer.compress=null, or use trainer=ddp_cpu trainer.devices=2",
    )
    yield (
        trainer.precision == "bf16-true",
        f"trainer.compress={kind} has nothing to compress: with trainer.precision=bf16-true gradients have "
        "16 bits already; set trainer.compress=null",
    )
    yield (
        trainer.precision == "64-true",
        f"trainer.compress={kind} rounds the float64 that trainer.precision=64-true asks for; set "
        "trainer.compress=null, or trainer.precision=32-true",
    )


def _momentum(config: RunConfig) -> Rules:
    optimizer = config.optimizer
    if optimizer.is_own or config.scheduler.is_own:
        return
    check_momentum(build_schedule(config.scheduler.node), optimizer.name, optimizer.get("momentum"))
    yield from ()


def _length(config: RunConfig) -> Rules:
    check_length(config, planned_steps(config))
    yield from ()


def _paper(config: RunConfig) -> Rules:
    unknown = sorted(str(name) for name in (config.paper or {}) if name not in PAPER_KEYS)
    yield (
        bool(unknown),
        f"paper.{(unknown or [''])[0]} is not a key; set paper=null, or use {', '.join(PAPER_KEYS)}",
    )
    yield (
        bool(config.paper) and not str((config.paper or {}).get("source") or "").strip(),
        "paper has no source, so no report would show its numbers; set paper=null, or +paper.source=own",
    )


def _line_search(config: RunConfig) -> Rules:
    trainer, kind = config.trainer, config.optimizer.name
    traits = traits_of(config.optimizer.target)
    if not traits.needs_closure:
        return
    yield (
        trainer.precision == "16-mixed",
        f"trainer.precision=16-mixed scales the loss that the line search of {kind} compares; set "
        "trainer.precision=32-true",
    )
    yield (
        trainer.gradient_clip is not None,
        f"trainer.gradient_clip={trainer.gradient_clip} gives {kind} a gradient that is not the slope of its "
        "loss; set trainer.gradient_clip=null",
    )
    if not traits.takes_second_derivatives:
        return
    yield (
        trainer.processes > 1,
        f"trainer.devices={trainer.processes}: {kind} takes second derivatives, which processes do not "
        "exchange; set trainer.devices=1, or optimizer=lbfgs",
    )
    yield (
        trainer.compile,
        f"trainer.compile=true: {kind} takes second derivatives, which compiled networks do not have; set "
        "trainer.compile=false",
    )


def _cuda_graph(config: RunConfig) -> Rules:
    trainer, optimizer = config.trainer, config.optimizer
    if trainer.cuda_graph is not True:
        return
    for is_broken, reason in (
        (
            trainer.accelerator in ("cpu", "mps"),
            f"needs an NVIDIA GPU, but trainer.accelerator={trainer.accelerator}",
        ),
        (trainer.processes > 1, "records the steps of one process, which exchanges no gradients"),
        (
            trainer.precision not in ("32-true", "bf16-mixed"),
            f"works with trainer.precision=32-true and bf16-mixed, not with {trainer.precision}",
        ),
        (
            trainer.profiler is not None,
            f"leaves no single steps for trainer.profiler={trainer.profiler} to measure",
        ),
        (
            traits_of(optimizer.target).needs_closure,
            f"records one pass over a batch per step, but {optimizer.name} makes several",
        ),
    ):
        yield is_broken, f"trainer.cuda_graph=true {reason}; set trainer.cuda_graph=auto"


def _averaging_optimizer(config: RunConfig) -> Rules:
    optimizer = config.optimizer
    if not traits_of(optimizer.target).averages_weights:
        return
    yield (
        optimizer.get("momentum") == 0,
        f"optimizer.momentum=0: {optimizer.name} divides by momentum to find its average; set "
        "optimizer.momentum=0.9",
    )
    yield (
        config.ema.decay is not None,
        f"ema.decay={config.ema.decay}: {optimizer.name} averages its weights itself; set ema.decay=null",
    )
    yield (
        build_schedule(config.scheduler.node).moves_momentum,
        f"the schedule changes momentum, which {optimizer.name} uses to mix its weights; set {MOMENTUM_OFF}, "
        "or scheduler=constant",
    )


def _validation(config: RunConfig) -> Rules:
    if config.data.validates:
        return
    yield (
        config.objective.startswith("val/"),
        f"objective={config.objective} needs validation images, but data.val_size=0; set data.val_size=0.1, "
        "or objective=test/accuracy checkpoint.select=last",
    )
    yield (
        config.checkpoint.select == "best",
        "checkpoint.select=best needs validation images, but data.val_size=0; set checkpoint.select=last",
    )
    yield (
        config.early_stopping.patience is not None,
        "early_stopping.patience needs validation images, but data.val_size=0; set data.val_size=0.1",
    )
