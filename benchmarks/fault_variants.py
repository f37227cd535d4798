"""Commands that faults.py stops: small runs that use different parts of training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TINY = (
    "model=mlp",
    "trainer=cpu",
    "trainer.threads=1",
    "data.train_size=320",
    "trainer.epochs=8",
    "trainer.log_every_n_steps=1",
    "trainer.steps_per_call=1",
    "checkpoint.every_n_steps=3",
)
"""40 steps, each a row of metrics.csv."""


@dataclass(frozen=True)
class Variant:
    """A command, and its share of the runs."""

    name: str
    overrides: tuple[str, ...]
    share: int = 8
    jobs: tuple[str, ...] = ("",)
    """Folders of the runs below the command's own: those of a sweep's jobs."""

    def arguments(self, folder: Path) -> list[str]:
        """Return the arguments that start it in a folder, or rerun a sweep."""
        where = "hydra.run.dir" if self.jobs == ("",) else "hydra.sweep.dir"
        given = {word.partition("=")[0]: word for word in (*TINY, *self.overrides)}
        return [*given.values(), f"{where}={folder}"]


FEW_EPOCHS = "trainer.epochs=4"
TWO_JOBS = ("seed=0", "seed=1")
VARIANTS = (
    Variant("1cycle, cyclical momentum", ("scheduler=onecycle", "optimizer.lr=0.01")),
    Variant("moving average, clipping", ("ema.decay=0.9", "trainer.gradient_clip=1", "optimizer=nesterov")),
    Variant("dropout", ("model=cnn3", FEW_EPOCHS)),
    Variant("batch norm, dropout", ("model=densenet40", "model.depth=10", "model.dropout=0.2", FEW_EPOCHS)),
    Variant(
        "augmentation, accumulation",
        ("data.augment={crop_padding: 1, flip: true, cutout: 2}", "trainer.accumulate=2", "optimizer=adamw"),
    ),
    Variant("early stopping", ("early_stopping.patience=2", "early_stopping.min_delta=0.05")),
    Variant("every 2 steps, end within an epoch", ("checkpoint.every_n_steps=2", "trainer.max_steps=38")),
    Variant("chunks of steps", ("trainer.steps_per_call=auto", "checkpoint.every_n_steps=null")),
    Variant("the 3 best states", ("checkpoint.keep_best=3", "optimizer=adam", "optimizer.lr=0.1")),
    Variant("sweep", ("seed=0,1", FEW_EPOCHS, "-m"), 8, TWO_JOBS),
    Variant("sweep, a process per job", ("hydra/launcher=local", "seed=0,1", FEW_EPOCHS, "-m"), 8, TWO_JOBS),
    Variant("2 processes (DDP, gloo)", ("trainer=ddp_cpu", "trainer.devices=2", FEW_EPOCHS), 12),
)
