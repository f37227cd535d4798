"""Keys that are set but change nothing in this run: a line each, because a sweep may well have some."""

from __future__ import annotations

from tempo.config.hydra_targets import parameters_of, signature_of
from tempo.config.rules import Rules
from tempo.config.run_length import schedule_of
from tempo.config.schema import COMMON_DATA_KEYS, RunConfig, ServerConfig, TrainerConfig


def keys_without_effect(config: RunConfig, steps: int | None, epochs: int | None) -> list[str]:
    """Return a line for each key without effect; None: the run's length is not known yet."""
    rules = [*_other_settings(config)]
    if steps is not None and epochs is not None:
        rules += _beyond_the_end(config, steps, epochs)
    return [line for is_without_effect, line in rules if is_without_effect]


def _other_settings(config: RunConfig) -> Rules:
    """Yield the keys that need another key to have an effect."""
    trainer, server = config.trainer, config.server
    for key in ("count", "placement", "reply"):
        value = getattr(server, key)
        yield (
            trainer.method != "ps_sync" and value != getattr(ServerConfig, key),
            f"server.{key}={value} has no effect without trainer.method=ps_sync",
        )
    yield (
        trainer.lr_scaling == "none" and trainer.lr_reference_batch != TrainerConfig.lr_reference_batch,
        f"trainer.lr_reference_batch={trainer.lr_reference_batch} has no effect without "
        "trainer.lr_scaling=linear or sqrt",
    )
    yield (
        trainer.backend is not None and trainer.processes == 1,
        f"trainer.backend={trainer.backend} has no effect on one device, which exchanges nothing",
    )
    stopping = config.early_stopping
    yield (
        stopping.patience is None and stopping.min_delta != 0,
        f"early_stopping.min_delta={stopping.min_delta:g} has no effect without early_stopping.patience",
    )
    data = config.data
    limited = data.train_size, trainer.limit_train_steps, trainer.limit_eval_batches
    yield (
        data.split_seed != 0 and not data.validates and limited == (None, None, None),
        f"data.split_seed={data.split_seed} has no effect with data.val_size=0: nothing is drawn",
    )
    target = data.source.target
    # A source of tempo's own gets the keys that its signature names; `num_workers` means the same for both.
    outside = {} if signature_of(target) is not None else parameters_of(target)
    for name in sorted(COMMON_DATA_KEYS & outside.keys() - {"num_workers"}):
        yield (
            True,
            f"data.{name} is a key of tempo, so {data.source.name} keeps its own default for it; give "
            "its parameter another name to set it here",
        )


def _beyond_the_end(config: RunConfig, steps: int, epochs: int) -> Rules:
    """Yield the intervals that are longer than the run."""
    trainer, every, patience = config.trainer, config.checkpoint.every_n_steps, config.early_stopping.patience
    run = f"the run ends after {steps} step{'s' * (steps > 1)}, {epochs} epoch{'s' * (epochs > 1)}"
    yield (
        every is not None and every > steps,
        f"checkpoint.every_n_steps={every} has no effect: {run}",
    )
    least = 1 if config.scheduler.is_own else schedule_of(config).least_steps
    yield steps < least, f"scheduler: {run}, but the whole curve needs {least} steps"
    for key in ("test_every_n_epochs", "val_every_n_epochs"):
        interval = getattr(trainer, key)
        yield interval is not None and interval > epochs, f"trainer.{key}={interval} has no effect: {run}"
    validations = -(-epochs // trainer.val_every_n_epochs)
    yield (
        patience is not None and patience >= validations,
        f"early_stopping.patience={patience} has no effect: {run}, with {validations} "
        f"validation{'s' * (validations > 1)}",
    )
