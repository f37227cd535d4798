"""The frugal stem on its own: its parameters, its layers, and that nothing behind it moves."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tempo.model.frugal import FrugalStem
from tests.model.reference import build, parameter_count


def stem_before(option: str, shape: tuple[int, int, int], sha: str = "a" * 64) -> FrugalStem:
    torch.manual_seed(0)
    network = build(option, (shape[0], (shape[1] + 1) // 2, (shape[2] + 1) // 2))
    return FrugalStem(input_shape=shape, num_classes=10, run="logs/a", network=network, network_sha256=sha)


@pytest.mark.parametrize(
    ("channels", "parameters"), [(3, 3 * 3 * 49 + 3 + 3 * 3 * 9 + 3), (1, 49 + 1 + 9 + 1)]
)
def test_only_the_stem_is_trained(channels: int, parameters: int) -> None:
    model = stem_before("resnet20", (channels, 32, 32))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert sum(parameter.numel() for parameter in trained) == parameters
    assert parameter_count(model) == parameters + parameter_count(model.network)
    assert channels == 1 or parameters == 528  # the paper's number


def test_forward_is_the_papers_four_layers() -> None:
    model = stem_before("cnn3", (3, 16, 16)).eval()
    images = torch.randn(2, 3, 16, 16)
    first, second = model.stem[0], model.stem[2]
    x = F.conv2d(F.pad(images, (3, 3, 3, 3)), first.weight, first.bias).clamp(min=0)
    x = F.conv2d(F.pad(x, (1, 1, 1, 1)), second.weight, second.bias).clamp(min=0)
    halved = x[:, :, ::2, ::2]  # every second pixel of a convolution at stride 1
    assert halved.shape[2:] == (8, 8)
    torch.testing.assert_close(model(images), model.network(halved))


def test_training_moves_nothing_behind_the_stem() -> None:
    model = stem_before("resnet20", (3, 16, 16)).train()
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    stem = [parameter.clone() for parameter in model.stem.parameters()]
    optimizer = torch.optim.SGD(model.stem.parameters(), lr=0.1)
    for _ in range(3):
        F.cross_entropy(model(torch.randn(8, 3, 16, 16)), torch.arange(8)).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(torch.equal(before[name], value) for name, value in model.network.state_dict().items())
    assert not any(torch.equal(old, new) for old, new in zip(stem, model.stem.parameters(), strict=True))
    assert not model.network.training


def test_state_dict_holds_the_stem_and_names_what_it_stands_on() -> None:
    model = stem_before("cnn3", (3, 16, 16))
    state = model.state_dict()
    assert {name.partition(".")[0] for name in state} == {"stem", "_extra_state"}
    other = stem_before("cnn3", (3, 16, 16))
    torch.nn.init.zeros_(other.stem[0].weight)
    other.load_state_dict(state)
    assert torch.equal(other.stem[0].weight, model.stem[0].weight)


def test_a_stem_is_refused_in_front_of_another_network() -> None:
    state = stem_before("cnn3", (3, 16, 16)).state_dict()
    with pytest.raises(RuntimeError, match="trained in front of the network of logs/a"):
        stem_before("cnn3", (3, 16, 16), sha="b" * 64).load_state_dict(state)
