"""Check that a user's LightningModule, its data and the rest of the configuration fit together."""

from __future__ import annotations

from collections.abc import Iterator

import pytorch_lightning as pl

from tempo.config.schema import RunConfig
from tempo.data.run_data_module import ImageDataModule, RunDataModule
from tempo.errors import UserError
from tempo.optimizer.capabilities import traits_of
from tempo.record.newer_keys import NEWER_KEYS

Rules = Iterator[tuple[bool, str]]
_OWN = "optimizer=own scheduler=own"


def check_network(config: RunConfig, data: RunDataModule) -> None:
    """Raise UserError if a network, which tempo's classifier trains, gets options for a LightningModule."""
    for group, target in (("optimizer", config.optimizer), ("scheduler", config.scheduler)):
        if target.is_own:
            raise UserError(
                f"{group}=own: the network of model={config.model.name} brings none of its own; set "
                "optimizer=momentum scheduler=constant"
            )
    if isinstance(data, ImageDataModule):
        return
    trainer, name = config.trainer, config.data.source.name
    if trainer.exchange.is_asynchronous:
        raise UserError(
            f"trainer.method={trainer.method} gives out batches of images in memory, but data={name} reads "
            "its own; set trainer.method=ring"
        )
    if trainer.test_every_n_epochs is not None:
        raise UserError(
            f"trainer.test_every_n_epochs={trainer.test_every_n_epochs} would test data={name} before "
            "a state is chosen; set trainer.test_every_n_epochs=null"
        )


def check_own_module(config: RunConfig, module: pl.LightningModule, data: RunDataModule) -> None:
    """Raise UserError if a LightningModule cannot be trained as the configuration asks."""
    name = type(module).__name__
    if not overrides_hook(module, "training_step"):
        raise UserError(
            f"model={name} is a LightningModule without training_step, so nothing would be trained; write "
            "one, or set model._target_=<another class>"
        )
    if isinstance(data, ImageDataModule) and overrides_hook(module, "train_dataloader"):
        raise UserError(
            f"{name} has train_dataloader, but data={config.data.source.name} would be trained on; set "
            "data=own, or remove that method"
        )
    has_own = overrides_hook(module, "configure_optimizers")
    chosen = {"optimizer": config.optimizer.is_own, "scheduler": config.scheduler.is_own}
    if has_own and not all(chosen.values()):
        group = next(group for group, is_own in chosen.items() if not is_own)
        raise UserError(
            f"{name} has configure_optimizers, so the chosen {group} would not be used; set {_OWN}, or "
            "remove that method"
        )
    if not has_own and any(chosen.values()):
        raise UserError(
            f"{name} has no configure_optimizers, so {_OWN} would train nothing; set optimizer=adam "
            "scheduler=constant"
        )
    if data.has_val and not overrides_hook(module, "validation_step"):
        raise UserError(
            f"{name} has no validation_step, but the data have a validation set; write one, or set "
            "data.val_size=0 checkpoint.select=last objective=train/loss"
        )
    for is_broken, message in (*_unsupported(config, name), *_manual_optimization(config, name, module)):
        if is_broken:
            raise UserError(message)


def overrides_hook(module: pl.LightningModule, hook: str) -> bool:
    """Whether a module has its own version of a hook of Lightning."""
    return getattr(type(module), hook) is not getattr(pl.LightningModule, hook)


def _unsupported(config: RunConfig, name: str) -> Rules:
    """Yield what only tempo's own networks can do."""
    trainer, optimizer = config.trainer, config.optimizer
    ours = "works with tempo's own networks only"
    yield (
        config.loss.node != NEWER_KEYS["loss"],
        f"loss={config.loss.name} has no effect, because {name} computes its own loss; set "
        "loss=cross_entropy, or change the loss in its training_step",
    )
    yield (
        bool(config.metrics),
        f"metrics={config.metrics} has no effect on {name}, which logs its own metrics with self.log; set "
        "metrics=null",
    )
    yield trainer.method != "ring", f"trainer.method={trainer.method} {ours}; set trainer.method=ring"
    yield trainer.shard, f"trainer=fsdp2 {ours}; set trainer=ddp"
    yield trainer.cuda_graph is True, f"trainer.cuda_graph=true {ours}; set trainer.cuda_graph=auto"
    yield config.ema.decay is not None, f"ema.decay={config.ema.decay} {ours}; set ema.decay=null"
    for key, alpha in (("mixup", config.data.mixup), ("cutmix", config.data.cutmix)):
        yield alpha is not None, f"data.{key}={alpha} {ours}; set data.{key}=null"
    yield trainer.compile, f"trainer.compile=true {ours}; compile {name} in its own __init__"
    yield (
        trainer.test_every_n_epochs is not None,
        f"trainer.test_every_n_epochs={trainer.test_every_n_epochs} would test {name} before its state is "
        "chosen; set trainer.test_every_n_epochs=null",
    )
    traits = traits_of(optimizer.target)
    yield (
        traits.needs_closure,
        f"optimizer={optimizer.name} computes the loss of a step several times, which {ours}; set "
        "optimizer=adam",
    )
    yield (
        traits.averages_weights,
        f"optimizer={optimizer.name} tests averaged weights, which {ours}; set optimizer=adamw",
    )


def _manual_optimization(config: RunConfig, name: str, module: pl.LightningModule) -> Rules:
    """Yield what has no effect on a module that takes its optimizer steps itself."""
    if module.automatic_optimization:
        return
    trainer, why = config.trainer, f"{name} takes its optimizer steps itself (automatic_optimization=False)"
    yield (
        trainer.accumulate > 1,
        f"trainer.accumulate={trainer.accumulate} has no effect: {why}; set trainer.accumulate=1",
    )
    yield (
        trainer.gradient_clip is not None,
        f"trainer.gradient_clip={trainer.gradient_clip} has no effect: {why}; set trainer.gradient_clip=null",
    )
    yield (
        not config.optimizer.is_own,
        f"the run's schedule cannot be applied: {why}; write configure_optimizers and set {_OWN}",
    )
