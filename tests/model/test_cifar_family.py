"""The networks for small images against slow references, closed forms and published numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from tempo.model.cifar_resnet import BasicBlock, shortcut
from tempo.model.densenet import DenseBlock, DenseLayer
from tempo.model.smith_wide_resnet import WideBlock
from tempo.model.wide_resnet import PreactivationBlock
from tests.model import reference
from tests.model.reference import build, parameter_count


@pytest.mark.parametrize("size", [(8, 8), (7, 5)], ids=str)
@pytest.mark.parametrize(("stride", "out_channels"), [(1, 3), (2, 3), (2, 6)])
def test_option_a_shortcut(size: tuple[int, int], stride: int, out_channels: int) -> None:
    x = torch.randn(2, 3, *size)
    expected = reference.option_a_shortcut(x, stride=stride, out_channels=out_channels)
    assert torch.equal(shortcut(x, stride=stride, out_channels=out_channels), expected)


def test_basic_block() -> None:
    torch.manual_seed(0)
    block = BasicBlock(in_channels=3, out_channels=6, stride=2).double()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    # a stride of 2 is the convolution at every pixel, of which every second is kept
    h = reference.convolution_3x3(x, block.conv1.weight)[:, :, ::2, ::2]
    h = reference.batch_norm(h, block.bn1.weight, block.bn1.bias).clamp(min=0)
    h = reference.convolution_3x3(h, block.conv2.weight)
    h = reference.batch_norm(h, block.bn2.weight, block.bn2.bias)
    expected = (h + reference.option_a_shortcut(x, stride=2, out_channels=6)).clamp(min=0)
    torch.testing.assert_close(block(x), expected)


def test_dense_layer_and_block() -> None:
    torch.manual_seed(1)
    settings = {"growth_rate": 3, "bottleneck": False, "dropout": 0.0}
    layers = [DenseLayer(in_channels=4 + 3 * i, **settings).double() for i in range(2)]
    for layer in layers:
        torch.nn.init.normal_(layer.norm1.weight)
        torch.nn.init.normal_(layer.norm1.bias)
    x = torch.randn(2, 4, 4, 5, dtype=torch.float64)

    def slow(layer: DenseLayer, h: torch.Tensor) -> torch.Tensor:
        h = reference.batch_norm(h, layer.norm1.weight, layer.norm1.bias).clamp(min=0)
        return reference.convolution_3x3(h, layer.conv1.weight)

    first = slow(layers[0], x)
    torch.testing.assert_close(layers[0](x), first)
    second = slow(layers[1], torch.cat([x, first], dim=1))
    torch.testing.assert_close(DenseBlock(*layers)(x), torch.cat([x, first, second], dim=1))


def test_preactivation_block() -> None:
    torch.manual_seed(2)
    block = PreactivationBlock(in_channels=3, out_channels=5, stride=2, dropout=0.0).double()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    activated = reference.batch_norm(x, block.bn1.weight, block.bn1.bias).clamp(min=0)
    assert block.projection is not None
    projected = torch.einsum("oi,nihw->nohw", block.projection.weight[:, :, 0, 0], activated[:, :, ::2, ::2])
    h = reference.convolution_3x3(activated, block.conv1.weight)[:, :, ::2, ::2]
    h = reference.batch_norm(h, block.bn2.weight, block.bn2.bias).clamp(min=0)
    torch.testing.assert_close(block(x), projected + reference.convolution_3x3(h, block.conv2.weight))


@pytest.mark.parametrize("side", [6, 7])
def test_smiths_block(side: int) -> None:
    torch.manual_seed(3)
    block = WideBlock(in_channels=2, out_channels=8, stride=2).double()
    x = torch.randn(3, 2, side, side, dtype=torch.float64)
    h = reference.convolution_3x3(x, block.conv1.weight)[:, :, ::2, ::2]
    h = reference.batch_norm(h, block.bn1.weight, block.bn1.bias).clamp(min=0)
    h = reference.convolution_3x3(h, block.conv2.weight)
    h = reference.batch_norm(h, block.bn2.weight, block.bn2.bias)
    padded = F.pad(x, (0, side % 2, 0, side % 2))
    assert block.projection is not None
    weight = block.projection.weight
    corners = [(row, column) for row in (0, 1) for column in (0, 1)]
    projected = sum(
        torch.einsum("oi,nihw->nohw", weight[:, :, row, column], padded[:, :, row::2, column::2])
        for row, column in corners
    )
    projected = reference.batch_norm(projected, block.projection_bn.weight, block.projection_bn.bias)
    torch.testing.assert_close(block(x), h + projected)


@pytest.mark.parametrize(
    ("depth", "published_millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)]
)
def test_resnet_parameters(depth: int, published_millions: float) -> None:
    for channels, classes in ((3, 10), (1, 10), (3, 100)):
        with torch.device("meta"):
            count = parameter_count(build(f"resnet{depth}", (channels, 32, 32), classes))
        assert count == reference.resnet_parameters(depth, channels=channels, classes=classes)
        if (channels, classes) == (3, 10):
            digits = 1 if published_millions > 1 else 2
            assert round(count / 1e6, digits) == published_millions


@pytest.mark.parametrize(("channels", "classes"), [(3, 10), (1, 10), (3, 100)])
def test_densenet_and_wide_resnet_parameters(channels: int, classes: int) -> None:
    kind: dict[str, Any] = {"channels": channels, "classes": classes}
    with torch.device("meta"):
        dense = parameter_count(build("densenet40", (channels, 32, 32), classes))
        wide = parameter_count(build("wrn28_10", (channels, 32, 32), classes))
        smith = parameter_count(build("wrn32_4", (channels, 32, 32), classes))
    assert dense == reference.densenet_parameters(40, 12, **kind)
    assert wide == reference.wide_resnet_parameters(28, 10, **kind)
    assert smith == reference.smith_parameters((16, 64, 256), 5, **kind)


@pytest.mark.parametrize(
    ("option", "overrides", "published_millions", "digits"),
    [
        ("densenet40", {}, 1.0, 1),
        # table 2 of the paper, its other rows: DenseNet (k = 12, 24) with 100 layers, DenseNet-BC
        ("densenet40", {"depth": 100}, 7.0, 0),
        ("densenet40", {"depth": 100, "growth_rate": 24}, 27.2, 1),
        ("densenet40", {"depth": 100, "bottleneck": True, "reduction": 0.5}, 0.8, 1),
        ("densenet40", {"depth": 250, "growth_rate": 24, "bottleneck": True, "reduction": 0.5}, 15.3, 1),
        # table 4 of arXiv:1605.07146
        ("wrn28_10", {}, 36.5, 1),
        ("wrn28_10", {"depth": 40, "widen_factor": 4}, 8.9, 1),
        ("wrn28_10", {"depth": 16, "widen_factor": 8}, 11.0, 1),
    ],
)
def test_published_parameters(
    option: str, overrides: dict[str, Any], published_millions: float, digits: int
) -> None:
    with torch.device("meta"):
        count = parameter_count(build(option, (3, 32, 32), **overrides))
    assert round(count / 1e6, digits) == published_millions


def test_cnn3_is_the_papers_order_to_the_bit() -> None:
    torch.manual_seed(3)
    network, images = build("cnn3", (3, 16, 16), dropout=0.0), torch.randn(4, 3, 16, 16)
    network.features[0].weight.data[5] = 0.0  # equal values in all windows, and none above zero
    network.features[0].bias.data[4:6] = -1.0
    found = network(images)
    gradients = torch.autograd.grad(found.square().sum(), list(network.parameters()))
    x = images
    for index in (0, 3, 6):
        x = F.max_pool2d(F.relu(network.features[index](x)), 2)
    expected = network.output(x.flatten(1))
    assert torch.equal(found, expected)
    of_paper = torch.autograd.grad(expected.square().sum(), list(network.parameters()))
    assert all(map(torch.equal, gradients, of_paper))


def test_dropout_acts_in_training_alone() -> None:
    torch.manual_seed(4)
    images = torch.randn(8, 1, 8, 8)
    dropped = [("cnn3", {"dropout": 0.5}), ("densenet40", {"depth": 10, "dropout": 0.2})]
    for option, overrides in [*dropped, ("wrn28_10", {"depth": 10, "widen_factor": 1, "dropout": 0.3})]:
        network = build(option, (1, 8, 8), **overrides)
        assert not torch.equal(network(images), network(images)), option
        network.eval()
        assert torch.equal(network(images), network(images)), option


@pytest.mark.parametrize(
    ("option", "overrides", "words"),
    [
        ("mlp", {"hidden": [128, 0]}, "model.hidden=[128, 0]"),
        ("cnn3", {"widths": [32, 64]}, "set model.widths=[32,64,128]"),
        ("cnn3", {"dropout": 1.0}, "model.dropout=1.0"),
        ("cnn3", {"input_shape": (1, 7, 28)}, "needs 8x8 or more"),
        ("resnet20", {"depth": 21}, "set model.depth=20 or 26"),
        ("resnet20", {"depth": 2}, "set model.depth=8 or 14"),
        ("densenet40", {"depth": 41}, "set model.depth=40 or 43"),
        ("densenet40", {"bottleneck": True, "depth": 41}, "set model.depth=40 or 46"),
        ("densenet40", {"growth_rate": 0}, "model.growth_rate=0"),
        ("densenet40", {"reduction": 1.5}, "model.reduction=1.5"),
        ("densenet40", {"dropout": -0.1}, "model.dropout=-0.1"),
        ("densenet40", {"input_shape": (3, 3, 3)}, "needs 4x4 or more"),
        ("wrn28_10", {"depth": 32}, "set model.depth=28 or 34"),
        ("wrn28_10", {"widen_factor": 0}, "model.widen_factor=0"),
        ("wrn28_10", {"dropout": 1}, "model.dropout=1"),
        ("wrn32_4", {"depth": 28}, "set model.depth=26 or 32"),
        ("wrn32_4", {"widths": [16, 64]}, "set model.widths=[16,64,256]"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_in_one_line(
    option: str, overrides: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError) as caught:
        build(option, **{"input_shape": (3, 32, 32), **overrides})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
