"""Callbacks that see what a module does at the end of an epoch."""

from __future__ import annotations

from pytorch_lightning.callbacks import Checkpoint


class LateCallback(Checkpoint):
    """A callback whose `on_train_epoch_end` is called after that of the module.

    So it sees what the module logs there, and saves a scheduler that the module steps there. Lightning
    promises this order for `Checkpoint` and moves such callbacks behind all others; their own order stays.
    """
