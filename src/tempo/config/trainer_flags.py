"""Further arguments of Lightning's Trainer: what `trainer.flags` passes on, and what to set instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tempo.config.keys_elsewhere import key_here
from tempo.errors import nearest

PASSED = (
    "max_time",
    "limit_predict_batches",
    "inference_mode",
    "detect_anomaly",
    "sync_batchnorm",
    "enable_autolog_hparams",
)
"""Flags that keep every promise of a run."""
_SAME_NAME = ("accelerator", "devices", "num_nodes", "precision", "deterministic", "profiler", "max_steps")
_INSTEAD = {
    **dict.fromkeys((*_SAME_NAME, "log_every_n_steps"), "is a key of tempo; set trainer.{name}={value}"),
    "logger": "is a group; set logger=[wandb,mlflow]",
    "callbacks": "is a group; set callbacks=<option of conf/callbacks>",
    "plugins": "is set by trainer.precision and trainer.method; leave it out",
    "use_distributed_sampler": "has no effect, because each process gets its own items; leave it out",
    "reload_dataloaders_every_n_epochs": "has no effect, because the seed decides the items; leave it out",
    "barebones": "would leave the run without a record; leave it out",
    "model_registry": "uploads the checkpoints of Lightning, which tempo replaces; leave it out",
}
REFUSED = (
    *_INSTEAD,
    *("strategy", "fast_dev_run", "overfit_batches", "max_epochs", "min_epochs", "min_steps", "benchmark"),
    *("limit_train_batches", "limit_val_batches", "limit_test_batches", "val_check_interval"),
    *("check_val_every_n_epoch", "num_sanity_val_steps", "enable_checkpointing", "enable_progress_bar"),
    *("enable_model_summary", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm"),
    "default_root_dir",
)
"""Flags that tempo sets itself."""


def broken_flags(flags: Mapping[str, Any] | None, accelerator: str) -> Iterator[tuple[bool, str]]:
    """Yield, for each flag, whether it cannot be passed on, and the line that says what to do."""
    for name, value in (flags or {}).items():
        if name in _INSTEAD:
            yield True, f"trainer.flags.{name} {_INSTEAD[name].format(name=name, value=value)}"
        elif name in REFUSED:
            yield True, f"trainer.flags: {key_here(f'trainer.{name}', value)}"
        known = (*PASSED, *REFUSED)
        yield (
            name not in known,
            f"trainer.flags.{name} is not an argument of Lightning's Trainer.{nearest(name, known)} "
            f"Passed on: {', '.join(PASSED)}; leave it out, or set e.g. +trainer.flags.max_time=00:01:00:00",
        )
        yield (
            name == "sync_batchnorm" and bool(value) and accelerator == "cpu",
            "trainer.flags.sync_batchnorm needs GPUs, but trainer.accelerator=cpu; leave it out",
        )
