"""Starting weights of the networks in this package."""

from __future__ import annotations

from torch import nn


def initialise(network: nn.Module) -> None:
    """Draw all weights as He et al. do for ReLU networks: W ~ N(0, 2 / n_in).

    n_in is the number of inputs per output (kernel height * width * input channels). Norms start as the
    identity, biases at zero. Draws from torch's global generator.

    Source: He, Zhang, Ren, Sun 2015, *Delving Deep into Rectifiers*, arXiv:1502.01852, eq. 10, which the
    papers of ResNet, DenseNet and WRN use; Caffe's "msra" filler in Smith's networks is the same.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
