"""Lightning's advice to authors of training loops, silenced: a user of this project cannot act on it."""

from __future__ import annotations

import logging
import warnings

IGNORED = (
    # Lightning 2.6 on torch 2.14.
    ".*isinstance.treespec, LeafSpec.*",
    # Batches are a function of the step: an epoch that was begun is gone on with, to the bit.
    ".*ended before the epoch ended and your dataloader is not resumable.*",
    # A run is resumed in its own folder.
    ".*Checkpoint directory .* exists and is not empty.*",
    # trainer=cpu says so.
    ".*GPU available but not used.*",
    # A stem trains in front of a frozen network.
    ".*module.s. in eval mode at the start of training.*",
    # SLURM is installed on this machine, and this run has nothing to do with it.
    ".*srun. command is available.*",
    # data.val_size=0 says so.
    ".*have no `val_dataloader`.*",
)


def quiet() -> None:
    """Let only warnings through that are about this run."""
    for name in ("pytorch_lightning", "lightning_fabric", "pytorch_lightning.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in IGNORED:
        warnings.filterwarnings("ignore", message=message)
