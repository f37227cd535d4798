"""Set first weights that follow from the data or the architecture: whitening, the identity."""

from __future__ import annotations

import torch
from torch import nn

from tempo.config.schema import RunConfig
from tempo.data.augment import Preprocess
from tempo.data.run_data_module import ImageDataModule, RunDataModule
from tempo.errors import UserError
from tempo.model.initialisation import start_as_identity, whiten

MOST_WHITENED_IMAGES = 5000
"""Training images whose patches are whitened; more change the covariance of patches by little."""


def set_first_weights(network: nn.Module, config: RunConfig, data: RunDataModule) -> None:
    """Apply `init.dirac` and `init.whiten` to a new network.

    Whitening uses the first training images, normalized and without augmentation, so it is the same in every
    process and in a resumed run.

    Raises:
        UserError: the network or the data have no place for it.
    """
    init = config.init
    if init.dirac and not start_as_identity(network):
        raise UserError(
            f"init.dirac=true is for convolutions with an odd kernel, and {type(network).__name__} has none; "
            "set init.dirac=false, or model=small_vgg"
        )
    if init.whiten is None:
        return
    if not isinstance(data, ImageDataModule):
        raise UserError(
            f"init.whiten={init.whiten} reads training images in memory, which these data are not; set "
            "init.whiten=null"
        )
    mean, std = data.mean_and_std
    images = data.train.images[:MOST_WHITENED_IMAGES]
    normalized = Preprocess(None, mean, std, channels_last=False)(torch.as_tensor(images).cpu())
    try:
        whiten(network, init.whiten, normalized)
    except ValueError as error:
        raise UserError(f"init.whiten={init.whiten} {error}, or init.whiten=null") from error
