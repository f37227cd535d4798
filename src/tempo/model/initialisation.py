"""Starting weights of the networks in this package."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_WHITENED_BLOCK = 1000
"""Images whose patches are in memory at once."""
_WHITENING_NOISE = 5e-4


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


def start_as_identity(network: nn.Module) -> int:
    """Let convolutions start as the identity, as far as they have input channels; return their number.

    Filter i of a convolution with an odd kernel passes input channel i on, w[i, i, middle] = 1, for i below
    the number of input channels and of filters (Zagoruyko and Komodakis, *DiracNets*, arXiv:1706.00388).
    Further filters keep their own start. Grouped convolutions and even kernels stay as they are.
    """
    changed = 0
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups == 1 and all(s % 2 for s in module.kernel_size):
            with torch.no_grad():
                nn.init.dirac_(module.weight[: module.in_channels])
            changed += 1
    return changed


def whitening_filters(images: Tensor, kernel_size: tuple[int, int], filters: int) -> Tensor:
    """Return filters `[filters, C, height, width]` whose outputs on patches of the images are uncorrelated.

    With S = V diag(l) V' the covariance of all patches, a filter is an eigenvector divided by its standard
    deviation, v / sqrt(l + 0.0005), largest l first; the constant keeps noise small. The second half of the
    filters is the negative of the first, so that a ReLU loses nothing. Without the constant, the covariance
    of the first half of the outputs is the identity. Source: Jordan, arXiv:2404.00498, section 3.2.

    Args:
        images: float `[N, C, H, W]`, normalized as the network gets them.
        kernel_size: height and width of a patch.
        filters: an even number, at most twice the values of a patch.
    """
    height, width = kernel_size
    size = images.shape[1] * height * width
    total, products, count = torch.zeros(size).double(), torch.zeros(size, size).double(), 0
    for block in images.split(_WHITENED_BLOCK):
        patches = block.unfold(2, height, 1).unfold(3, width, 1).permute(0, 2, 3, 1, 4, 5)
        values = patches.reshape(-1, size).double()
        total, products, count = total + values.sum(0), products + values.T @ values, count + len(values)
    mean = total / count
    variances, vectors = torch.linalg.eigh(products / count - torch.outer(mean, mean))
    scaled = vectors / (variances.clamp(min=0) + _WHITENING_NOISE).sqrt()
    scaled *= vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()  # eigh leaves the sign open
    rows = scaled.T.flip(0)[: filters // 2]
    return torch.cat((rows, -rows)).float().view(filters, images.shape[1], height, width)


def whiten(network: nn.Module, name: str, images: Tensor) -> None:
    """Set a convolution of the network to `whitening_filters` of the images, its bias to 0, and freeze it.

    Filters beyond the even number of whitening ones, at most twice the values of a patch, keep their start.

    Raises:
        ValueError: there is no such convolution, or it cannot whiten; the message goes on after its name.
    """
    layer = dict(network.named_modules()).get(name)
    if not isinstance(layer, nn.Conv2d):
        known = [key for key, module in network.named_modules() if isinstance(module, nn.Conv2d)]
        raise ValueError(
            f"is not a convolution of the network; choose from: {', '.join(known[:12]) or 'none'}"
        )
    if layer.in_channels != images.shape[1] or layer.groups != 1:
        raise ValueError(
            f"takes {layer.in_channels} channels in {layer.groups} groups, not the images; name the first one"
        )
    height, width = layer.kernel_size[0], layer.kernel_size[1]
    filters = 2 * min(layer.out_channels // 2, layer.in_channels * height * width)
    with torch.no_grad():
        layer.weight[:filters] = whitening_filters(images, (height, width), filters)
        if layer.bias is not None:
            layer.bias.zero_()
    layer.requires_grad_(False)


def fix_norm_scales(network: nn.Module) -> None:
    """Set the scale of every batch norm to 1 and leave it untrained; its shift is trained."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) and module.affine:
            nn.init.ones_(module.weight)
            module.weight.requires_grad_(False)
