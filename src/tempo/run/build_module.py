"""Build the module that Lightning trains: a network in a Classifier, or a user's LightningModule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from tempo.config.hydra_targets import instantiated, signature_of
from tempo.config.rules_for_processes import fused_for_parts
from tempo.config.run_length import check_length, schedule_of
from tempo.config.schema import RunConfig
from tempo.data.augment import Augment, LowResolution, Preprocess
from tempo.data.batches import BatchPlan
from tempo.data.loader_data_module import LoaderDataModule
from tempo.data.run_data_module import ImageDataModule, RunDataModule
from tempo.data.transforms import MixImages
from tempo.distributed.process_group import position
from tempo.errors import UserError
from tempo.model.argument_checks import require_forward
from tempo.optimizer.build import build_optimizer
from tempo.optimizer.capabilities import traits_of
from tempo.run.build_batches import build_train_batches
from tempo.run.build_data import total_steps
from tempo.run.build_network import build_model
from tempo.run.check_own_module import check_network, check_own_module
from tempo.run.first_weights import set_first_weights
from tempo.task.async_classifier import AsyncClassifier
from tempo.task.classifier import Classifier
from tempo.task.evaluation import EvaluationSums
from tempo.task.loss_window import StepWindow
from tempo.task.losses import as_loss, check_takes_labels
from tempo.task.progress import Progress
from tempo.task.step_by_step import EpochMetrics, StepByStep


@dataclass(frozen=True)
class Task:
    """What a run trains.

    Attributes:
        module: the module that Lightning trains.
        progress: the state of its fit.
        network: the part whose weights are counted.
        first_callbacks: callbacks that must run before all others.
    """

    module: pl.LightningModule
    progress: Progress
    network: nn.Module
    first_callbacks: list[pl.Callback]

    @property
    def tested_network(self) -> nn.Module:
        """The part that is validated and tested."""
        return self.module.tested_network if isinstance(self.module, Classifier) else self.module


def build_task(config: RunConfig, data: RunDataModule, plan: BatchPlan) -> Task:
    """Build the module of conf/model and the progress of its fit."""
    check_length(config, total_steps(config, plan.steps_per_epoch))
    model: nn.Module | None = data.module
    if model is None:
        model = build_model(config.model, config.seed, data.shape, len(data.classes))
    set_first_weights(model, config, data)
    if isinstance(model, pl.LightningModule):
        return _own_module(config, data, plan, model)
    check_network(config, data)
    classifier = build_classifier(config, data, plan, model)
    return Task(classifier, classifier.progress, classifier.network, classifier.first_callbacks())


def _own_module(config: RunConfig, data: RunDataModule, plan: BatchPlan, module: pl.LightningModule) -> Task:
    check_own_module(config, module, data)
    has_optimizer = not config.optimizer.is_own
    progress = Progress(
        plan=plan,
        total_steps=total_steps(config, plan.steps_per_epoch),
        schedule=schedule_of(config) if has_optimizer else None,
        window=StepWindow(config.trainer.log_every_n_steps, ()),
        is_exact=data.order == "exact",
    )
    if has_optimizer:
        settings = _optimizer_settings(config)
        # Lightning asks the module for its optimizer, so the module gets the method that it lacks.
        module.configure_optimizers = lambda: build_optimizer(module, settings)  # type: ignore[method-assign]
    steps = StepByStep(progress)
    return Task(module, progress, module, [steps, EpochMetrics(steps)])


def connect_data(config: RunConfig, data: RunDataModule, task: Task, *, one_step: bool = False) -> None:
    """Let the data give the batches that the module takes, from the run's current step on.

    `one_step`: a callback wants to see each step, so a classifier takes one per call.
    """
    module, progress = task.module, task.progress
    plan, size = progress.plan, config.data.eval_batch_size
    augment = Augment(**asdict(config.data.augment))
    if isinstance(data, LoaderDataModule):
        own = not isinstance(module, Classifier)
        data.connect(
            plan,
            lambda: progress.steps_done,
            progress.total_steps,
            augment=augment if not own or data.of_tempo else None,
            preprocess=_pair(config, data, augment) if own and data.of_tempo else None,
        )
        return
    assert isinstance(data, ImageDataModule)
    if isinstance(module, Classifier):
        batches = build_train_batches(config, data, progress, module.parameter_count, one_step=one_step)
        data.connect(module.loader(batches), plan, size)
        return
    data.connect(build_train_batches(config, data, progress), plan, size, _pair(config, data, augment))


def _pair(config: RunConfig, data: RunDataModule, augment: Augment) -> tuple[Preprocess, Preprocess]:
    preprocess = _preprocess(config, data)
    return preprocess(augment), preprocess(None)


def build_classifier(
    config: RunConfig, data: RunDataModule, plan: BatchPlan, network: nn.Module
) -> Classifier:
    """Build a classifier of images: network, optimizer, schedule and preprocessing."""
    trainer = config.trainer
    mixup, cutmix = config.data.mixup, config.data.cutmix
    if config.ema.decay is not None and trainer.precision == "bf16-true":
        raise UserError(
            "ema.decay with trainer.precision=bf16-true: bf16 is too coarse for the steps of an average; "
            "set trainer.precision=bf16-mixed"
        )
    if trainer.channels_last:
        network = network.to(memory_format=torch.channels_last)
    if trainer.compile:
        torch.compiler.reset()  # torch keeps eight compiled networks per process; a ninth runs uncompiled
        network.compile()  # in place, which keeps the names in the state dict
    preprocess = _preprocess(config, data)
    loss = as_loss(instantiated("loss", config.loss.node, **_loss_arguments(config, data)))
    check_takes_labels(loss, data.has_label_sets)
    classifier: Callable[..., Classifier] = Classifier
    if trainer.exchange.is_asynchronous and (here := position()) is not None:
        bound = config.server.max_staleness
        classifier = partial(AsyncClassifier, worker=here.rank, workers=here.world_size, max_staleness=bound)
    progress = Progress(
        plan=plan,
        total_steps=total_steps(config, plan.steps_per_epoch),
        schedule=schedule_of(config),
        window=StepWindow(trainer.log_every_n_steps, ("loss", "accuracy")),
        is_exact=data.order == "exact",
    )
    return classifier(
        network=network,
        build_optimizer=partial(build_optimizer, settings=_optimizer_settings(config)),
        progress=progress,
        train_preprocess=preprocess(Augment(**asdict(config.data.augment))),
        eval_preprocess=preprocess(None),
        sums=EvaluationSums(len(data.classes), config.metrics or (), has_label_sets=data.has_label_sets),
        loss=loss,
        gradient_clip=trainer.gradient_clip,
        ema_decay=config.ema.decay,
        ema_warmup=config.ema.warmup,
        optimizer_averages=traits_of(config.optimizer.target).averages_weights,
        cuda_graph=trainer.cuda_graph,
        mix=MixImages(mixup, cutmix, len(data.classes)) if mixup or cutmix else None,
        low_resolution=_low_resolution(config, data, network, progress.total_steps),
    )


def _low_resolution(
    config: RunConfig, data: RunDataModule, network: nn.Module, total_steps: int
) -> LowResolution | None:
    """Return the change of size of the training images, tried on the network."""
    side = config.data.low_resolution
    if side is None:
        return None
    reduced = LowResolution(side, round(config.data.low_resolution_until * total_steps))
    if data.shape is not None:
        channels, height, width = data.shape
        shape = (channels, *reduced.size(height, width))
        try:
            require_forward(
                network=network, name=f"data.low_resolution={side}: {config.model.name}", input_shape=shape
            )
        except ValueError as error:
            raise UserError(
                f"{str(error).partition(';')[0]}; set data.low_resolution=null, or model=resnet20"
            ) from None
    return reduced


def _loss_arguments(config: RunConfig, data: RunDataModule) -> dict[str, Any]:
    """Return the arguments of tempo's losses; one of another package does not take them."""
    if "class_counts" not in (signature_of(config.loss.target) or ()):
        return {}
    counts = data.class_counts
    return {"num_classes": len(data.classes), "class_counts": None if counts is None else counts["train"]}


def _preprocess(config: RunConfig, data: RunDataModule) -> Callable[[Augment | None], Preprocess]:
    mean, std = data.mean_and_std
    return partial(Preprocess, mean=mean, std=std, channels_last=config.trainer.channels_last)


def _optimizer_settings(config: RunConfig) -> dict[str, Any]:
    settings = config.optimizer.node
    trainer = config.trainer
    if "fused" in settings and trainer.precision == "16-mixed" and trainer.gradient_clip is not None:
        # A fused optimizer divides by the loss scale itself, but clipping comes earlier and needs true sizes.
        settings["fused"] = False
    if "fused" in settings and trainer.shard:
        settings["fused"] = fused_for_parts(settings)
    return settings
