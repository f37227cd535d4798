"""First weights that are not drawn: whitening, the identity, norms without a scale."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tempo.model import initialisation
from tempo.model.cifar_resnet import ResNet


def correlated_images(channels: int = 3) -> torch.Tensor:
    """Noise whose neighbours and channels are alike, as in photographs."""
    torch.manual_seed(0)
    noise = torch.randn(300, channels, 10, 10)
    smooth = nn.functional.avg_pool2d(noise, 2, stride=1)
    return smooth + 0.5 * smooth.mean(1, keepdim=True) + 0.3


def test_outputs_of_the_whitened_layer_are_uncorrelated_with_variance_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(initialisation, "_WHITENING_NOISE", 0.0)
    images = correlated_images()
    layer = nn.Sequential(nn.Conv2d(3, 24, kernel_size=2))
    initialisation.whiten(layer, "0", images)
    outputs = layer(images).permute(1, 0, 2, 3).reshape(24, -1).numpy()  # no gradient: the layer is frozen
    np.testing.assert_allclose(np.cov(outputs[:12], bias=True), np.eye(12), atol=1e-4)
    np.testing.assert_allclose(outputs[12:], -outputs[:12], atol=1e-5)


def test_fewer_filters_keep_the_directions_of_most_variance() -> None:
    images = correlated_images()
    few = initialisation.whitening_filters(images, (2, 2), 8)
    all_of_them = initialisation.whitening_filters(images, (2, 2), 24)
    torch.testing.assert_close(few[:4], all_of_them[:4])
    patches = nn.functional.unfold(images, 2).permute(1, 0, 2).reshape(12, -1).numpy()
    largest = np.linalg.eigvalsh(np.cov(patches, bias=True))[::-1][:4]
    norms = few[:4].flatten(1).norm(dim=1).numpy()
    np.testing.assert_allclose(norms, 1 / np.sqrt(largest + 5e-4), rtol=1e-4)


@pytest.mark.parametrize(("filters", "whitened"), [(26, 24), (7, 6), (1, 0)])
def test_filters_that_cannot_whiten_keep_their_start(filters: int, whitened: int) -> None:
    torch.manual_seed(0)
    network, images = nn.Sequential(nn.Conv2d(3, filters, kernel_size=2)), correlated_images()
    start = network[0].weight.clone()
    initialisation.whiten(network, "0", images)
    assert torch.equal(network[0].weight[whitened:], start[whitened:])
    if whitened:
        expected = initialisation.whitening_filters(images, (2, 2), whitened)
        assert torch.equal(network[0].weight[:whitened], expected)


def test_only_a_convolution_can_whiten() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, kernel_size=2), nn.ReLU())
    with pytest.raises(ValueError, match="is not a convolution of the network; choose from: 0"):
        initialisation.whiten(network, "1", correlated_images())


def test_convolutions_pass_their_inputs_on() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.Conv2d(6, 5, 3, padding=1, bias=False)
    )
    drawn = network[0].weight[4:].clone()
    assert initialisation.start_as_identity(network) == 2
    images = torch.randn(2, 4, 7, 7)
    torch.testing.assert_close(network(images)[:, :4], images)
    assert torch.equal(network[0].weight[4:], drawn), "further filters keep their start"


def test_norms_without_scale_train_their_shift_alone() -> None:
    network = ResNet(input_shape=(3, 8, 8), num_classes=4, depth=8)
    initialisation.fix_norm_scales(network)
    network(torch.randn(4, 3, 8, 8)).sum().backward()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 7
    assert all(norm.weight.grad is None and norm.bias.grad is not None for norm in norms)
    assert all(torch.equal(norm.weight, torch.ones_like(norm.weight)) for norm in norms)
