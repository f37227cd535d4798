"""Settings of the whole process: the kernels torch uses, and the warnings a user sees."""

from __future__ import annotations

import io
import logging
import warnings

import torch

# Advice for authors of training loops, which a tempo user cannot act on.
_IGNORED_WARNINGS = (
    # Lightning 2.6 on torch 2.14.
    ".*isinstance.treespec, LeafSpec.*",
    # Batches are a function of the step, so an epoch resumes bit for bit.
    ".*ended before the epoch ended and your dataloader is not resumable.*",
    # A run is resumed in its own folder.
    ".*Checkpoint directory .* exists and is not empty.*",
    # trainer=cpu asks for this.
    ".*GPU available but not used.*",
    # A stem trains in front of a frozen network.
    ".*module.s. in eval mode at the start of training.*",
    # SLURM is installed on this machine, but this run does not use it.
    ".*srun. command is available.*",
    # data.val_size=0 asks for this.
    ".*have no `val_dataloader`.*",
    # `check_own_module` refuses it if there is a validation set.
    ".*have no `validation_step`.*",
    # The number of workers is the user's choice.
    ".*does not have many workers.*",
    # Rows of metrics.csv also end with each epoch.
    ".*smaller than the logging interval.*",
)


def quiet() -> None:
    """Hide Lightning's warnings and log lines that do not help a user of tempo."""
    for name in ("pytorch_lightning", "lightning_fabric", "pytorch_lightning.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler) and isinstance(handler.stream, io.TextIOWrapper):
            handler.stream.reconfigure(errors="backslashreplace")  # for names in an ASCII locale


def set_numerics(*, deterministic: bool, matmul_precision: str) -> None:
    """Apply the parts of `trainer.deterministic` and `trainer.matmul_precision` that Lightning leaves out."""
    torch.backends.cudnn.benchmark = not deterministic
    torch.set_float32_matmul_precision(matmul_precision)
    # torch uses TF32 in convolutions whatever the precision of matrix products.
    torch.backends.cudnn.allow_tf32 = matmul_precision != "highest"
    # Otherwise, in deterministic mode, torch first fills with NaN all memory that a kernel will overwrite.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
