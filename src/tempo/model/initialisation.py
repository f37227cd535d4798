"""Starting weights of the networks that are written here."""

from __future__ import annotations

from torch import nn


def initialise(network: nn.Module) -> None:
    """Draw every weight as He et al. do for ReLU networks; norms start as the identity, biases at zero.

    W ~ N(0, 2 / n_in), with n_in = inputs of one output (kernel height * width * input channels).
    The forward form of the equation; Caffe's "msra" filler, which Smith's networks use, is the same.

    Source: He, Zhang, Ren, Sun 2015, *Delving Deep into Rectifiers*, arXiv:1502.01852, eq. 10. The papers
    of ResNet, DenseNet and WRN all name it. Draws from torch's global generator, so a seed fixes it.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
