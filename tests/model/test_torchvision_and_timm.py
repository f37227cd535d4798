"""Networks taken from torchvision and timm: counts, plain logits in training, sizes refused in time."""

from __future__ import annotations

import sys

import pytest
import torch
import torchvision

from tempo.model.timm_model import timm_model
from tempo.model.torchvision_model import torchvision_model
from tests.model.reference import parameter_count

NO_TIMM = "timm is not installed: pip install -e '.[models]'"


@pytest.mark.parametrize(
    ("name", "published_millions"),
    [("vgg16", 138.4), ("vgg19", 143.7), ("resnet50", 25.6), ("resnet152", 60.2), ("densenet121", 8.0)],
)
def test_published_parameters(name: str, published_millions: float) -> None:
    with torch.device("meta"):
        network = torchvision_model(input_shape=(3, 224, 224), num_classes=1000, name=name)
    count = parameter_count(network)
    assert round(count / 1e6, 1) == published_millions
    assert count == torchvision.models.get_model_weights(name).DEFAULT.meta["num_params"]


@pytest.mark.parametrize(
    ("name", "side"),
    [("vgg11", 32), ("alexnet", 63), ("inception_v3", 75), ("googlenet", 15), ("squeezenet1_1", 17)],
)
def test_smallest_image(name: str, side: int) -> None:
    """At its smallest side training gives plain logits; one pixel less is refused before training."""
    device = (
        "cpu" if name == "squeezenet1_1" else "meta"
    )  # small, and what meta refuses is tried with numbers
    with torch.device(device):
        network = torchvision_model(input_shape=(3, side, side), num_classes=5, name=name)
        assert network.train()(torch.zeros(2, 3, side, side)).shape == (2, 5)
        with pytest.raises(ValueError) as caught:
            torchvision_model(input_shape=(3, side - 1, side - 1), num_classes=5, name=name)
    assert f"{name} cannot take images of {side - 1}x{side - 1}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_same_weights_as_torchvisions_own_under_a_seed() -> None:
    """The check of the size draws no random number and moves no statistic of a norm."""
    torch.manual_seed(0)
    ours = torchvision_model(input_shape=(3, 32, 32), num_classes=7, name="resnet18")
    after = torch.rand(1)
    torch.manual_seed(0)
    expected = torchvision.models.resnet18(num_classes=7)
    assert torch.equal(after, torch.rand(1))
    assert ours.training
    state = ours.state_dict()
    assert state.keys() == expected.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.state_dict().items())


def test_a_transformer_is_built_for_the_size_of_the_images() -> None:
    with torch.device("meta"):
        network = torchvision_model(input_shape=(3, 32, 32), num_classes=10, name="vit_b_16")
        assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
        with pytest.raises(ValueError, match=r"vit_b_16 cannot take images of 28x28: .*patch"):
            torchvision_model(input_shape=(3, 28, 28), num_classes=10, name="vit_b_16")
        with pytest.raises(ValueError, match="vit_b_16 cannot take images of 32x48"):
            torchvision_model(input_shape=(3, 32, 48), num_classes=10, name="vit_b_16")
        with pytest.raises(ValueError, match=r"maxvit_t cannot take images of 32x32: [^\n]*partition[^\n]*$"):
            torchvision_model(input_shape=(3, 32, 32), num_classes=10, name="maxvit_t")


def test_torchvision_refuses_other_channels_and_names() -> None:
    with pytest.raises(ValueError, match="these have 1"):
        torchvision_model(input_shape=(1, 28, 28), num_classes=10, name="resnet50")
    with pytest.raises(ValueError, match="Did you mean 'resnet50'"):
        torchvision_model(input_shape=(3, 32, 32), num_classes=10, name="resnet5O")
    # a detector is a network of torchvision too, but gives no logits
    with pytest.raises(ValueError, match="not a classification network"):
        torchvision_model(input_shape=(3, 32, 32), num_classes=10, name="fasterrcnn_resnet50_fpn")


def test_timm_missing_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # what the interpreter does for a package it cannot find
    with pytest.raises(ValueError, match=r"pip install -e '\.\[models\]'"):
        timm_model(input_shape=(3, 32, 32), num_classes=10, name="inception_v4")


def test_timm_networks_fit_the_images() -> None:
    pytest.importorskip("timm", reason=NO_TIMM)
    for name, input_shape in (("resnet18", (1, 8, 8)), ("vit_tiny_patch16_224", (3, 32, 32))):
        torch.manual_seed(0)
        network = timm_model(input_shape=input_shape, num_classes=4, name=name)
        logits = network(torch.randn(3, *input_shape))
        assert logits.shape == (3, 4)
        logits.sum().backward()
        assert all(parameter.grad is not None for parameter in network.parameters())


def test_timm_refuses_sizes_and_names() -> None:
    pytest.importorskip("timm", reason=NO_TIMM)
    with (
        torch.device("meta"),
        pytest.raises(ValueError, match=r"convnext_atto cannot take images of 8x8: .*Kernel size"),
    ):
        timm_model(input_shape=(1, 8, 8), num_classes=4, name="convnext_atto")
    with pytest.raises(ValueError, match="vit_tiny_patch16_224 cannot take images of 8x8"):
        timm_model(input_shape=(3, 8, 8), num_classes=4, name="vit_tiny_patch16_224")
    with pytest.raises(ValueError, match="Did you mean 'inception_v4'"):
        timm_model(input_shape=(3, 32, 32), num_classes=4, name="inceptoin_v4")
