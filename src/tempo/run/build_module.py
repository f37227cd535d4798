"""Build the module that Lightning trains: network, optimizer, schedule, preprocessing and their options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from tempo.config.rules_for_processes import fused_for_parts
from tempo.config.run_length import schedule_of
from tempo.config.schema import RunConfig
from tempo.data.augment import Augment, Preprocess, normalization
from tempo.data.batches import BatchPlan
from tempo.distributed.process_group import position
from tempo.errors import UserError
from tempo.optimizer.build import build_optimizer
from tempo.optimizer.capabilities import traits_of
from tempo.run.build_data import Data, total_steps
from tempo.run.build_network import build_network
from tempo.task.async_classifier import AsyncClassifier
from tempo.task.classifier import Classifier


def build_module(config: RunConfig, data: Data, plan: BatchPlan) -> Classifier:
    """Build network, optimizer, schedule and preprocessing as one Lightning module."""
    trainer = config.trainer
    if config.ema.decay is not None and trainer.precision == "bf16-true":
        raise UserError(
            "ema.decay with trainer.precision=bf16-true: bf16 is too coarse for the steps of an average; "
            "set trainer.precision=bf16-mixed"
        )
    network = build_network(config.model, config.seed, data.train.shape, len(data.train.classes))
    if trainer.channels_last:
        network = network.to(memory_format=torch.channels_last)
    if trainer.compile:
        torch.compiler.reset()  # torch keeps eight compiled networks per process; a ninth runs uncompiled
        network.compile()  # in place, which keeps the names in the state dict
    mean, std = normalization(config.data.normalize, data.train.images)
    preprocess = partial(Preprocess, mean=mean, std=std, channels_last=trainer.channels_last)
    classifier: Callable[..., Classifier] = Classifier
    if trainer.exchange.is_asynchronous and (here := position()) is not None:
        bound = config.server.max_staleness
        classifier = partial(AsyncClassifier, worker=here.rank, workers=here.world_size, max_staleness=bound)
    return classifier(
        network=network,
        build_optimizer=partial(build_optimizer, settings=_optimizer_settings(config)),
        schedule=schedule_of(config),
        total_steps=total_steps(config, plan.steps_per_epoch),
        plan=plan,
        train_preprocess=preprocess(Augment(**asdict(config.data.augment))),
        eval_preprocess=preprocess(None),
        num_classes=len(data.train.classes),
        gradient_clip=trainer.gradient_clip,
        ema_decay=config.ema.decay,
        ema_warmup=config.ema.warmup,
        optimizer_averages=traits_of(config.optimizer.target).averages_weights,
        log_every_n_steps=trainer.log_every_n_steps,
        cuda_graph=trainer.cuda_graph,
    )


def _optimizer_settings(config: RunConfig) -> dict[str, Any]:
    settings = config.optimizer.node
    trainer = config.trainer
    if "fused" in settings and trainer.precision == "16-mixed" and trainer.gradient_clip is not None:
        # A fused optimizer divides by the loss scale itself, but clipping comes earlier and needs true sizes.
        settings["fused"] = False
    if "fused" in settings and trainer.shard:
        settings["fused"] = fused_for_parts(settings)
    return settings
