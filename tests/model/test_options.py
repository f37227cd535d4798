"""Every option of conf/model, found by listing the folder: a new YAML without a row fails."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import pytest
import torch
from torch.nn import functional as F

from tempo.model.initialisation import initialise
from tests.model.reference import CONF_MODEL, build, constructor, parameter_count, read_option

# `frugal` stands on a finished run: tests/run/test_frugal.py.
OPTIONS = sorted({path.stem for path in CONF_MODEL.glob("*.yaml")} - {"frugal"})


class Row(NamedTuple):
    """The exact number of parameters for CIFAR-10 (or what is said), and where the number comes from."""

    parameters: int
    source: str
    input_shape: tuple[int, int, int] = (3, 32, 32)
    num_classes: int = 10


MODELS = {
    "mlp": Row(
        784 * 128 + 128 + 128 * 64 + 64 + 64 * 32 + 32 + 32 * 10 + 10,
        "mnist2024: 784-128-64-32-10, weights and biases",
        input_shape=(1, 28, 28),
    ),
    "cnn3": Row(
        (27 * 32 + 32) + (288 * 64 + 64) + (576 * 128 + 128) + (2048 * 10 + 10),
        "distributed: three 3x3 convolutions, 32 -> 4 pixels a side after three poolings",
    ),
    "resnet20": Row(269_722, "arXiv:1512.03385 table 6: 0.27 million"),
    "resnet32": Row(464_154, "arXiv:1512.03385 table 6: 0.46 million"),
    "resnet44": Row(658_586, "arXiv:1512.03385 table 6: 0.66 million"),
    "resnet56": Row(853_018, "arXiv:1512.03385 table 6: 0.85 million"),
    "resnet110": Row(1_727_962, "arXiv:1512.03385 table 6: 1.7 million"),
    "densenet40": Row(1_019_722, "arXiv:1608.06993 table 2: 1.0 million"),
    "wrn28_10": Row(36_479_194, "arXiv:1605.07146 table 4: 36.5 million"),
    "wrn32_4": Row(5_899_930, "wide32cifar.prototxt of arXiv:1803.09820, biases before a norm left out"),
    "small_vgg": Row(
        (12 * 16 + 16)
        + (9 * 16 * 32 + 9 * 32 * 32 + 4 * 32)
        + (9 * 32 * 128 + 9 * 128 * 128 + 4 * 128)
        + (2 * 9 * 128 * 128 + 4 * 128)
        + 128 * 10,
        "a first 2x2 convolution; three blocks of two 3x3 convolutions with norms; a head without bias",
    ),
    "torchvision": Row(25_557_032, "ResNet-50 on ImageNet: 25.6 million", (3, 224, 224), 1000),
    "timm": Row(42_679_816, "Inception v4 on ImageNet: 42.7 million", (3, 299, 299), 1000),
}
SMALL_IMAGES = [(1, 8, 8), (1, 28, 28), (3, 32, 32)]
# One option per class: the deeper ResNets have the same code; tests/config takes a step with every option.
CLASSES = sorted({read_option(option)["_target_"]: option for option in reversed(OPTIONS)}.values())
SMALL_NETWORKS = [option for option in CLASSES if option not in ("torchvision", "timm")]
# The wide networks take seconds a case at full width; narrow ones have the same code and layers.
CHEAPER = {"wrn28_10": {"widen_factor": 1}, "wrn32_4": {"widths": [8, 16, 32]}}


def test_every_option_has_a_row() -> None:
    assert sorted(MODELS) == OPTIONS


@pytest.mark.parametrize("option", OPTIONS)
def test_parameter_count(option: str) -> None:
    if option == "timm":
        pytest.importorskip("timm", reason="timm is not installed: pip install -e '.[models]'")
    row = MODELS[option]
    with torch.device("meta"):
        network = build(option, row.input_shape, row.num_classes)
    assert parameter_count(network) == row.parameters, row.source


@pytest.mark.parametrize("option", OPTIONS)
def test_yaml_keys_are_the_signature(option: str) -> None:
    parameters = inspect.signature(constructor(option)).parameters
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters.values())
    assert list(parameters)[:2] == ["input_shape", "num_classes"]
    assert set(parameters) - {"input_shape", "num_classes"} == set(read_option(option)) - {"_target_"}
    assert constructor(option).__module__ == read_option(option)["_target_"].rpartition(".")[0]


@pytest.mark.parametrize("input_shape", SMALL_IMAGES, ids=str)
@pytest.mark.parametrize("option", SMALL_NETWORKS)
def test_a_step_reaches_every_parameter(option: str, input_shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    # as they are on the smallest images, narrow on the larger ones
    overrides = {} if input_shape == (1, 8, 8) else CHEAPER.get(option, {})
    network = build(option, input_shape, 7, **overrides)
    logits = network(torch.randn(4, *input_shape))
    assert logits.shape == (4, 7)
    F.cross_entropy(logits, torch.tensor([0, 1, 2, 6])).backward()
    unreached = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not unreached


@pytest.mark.parametrize("option", SMALL_NETWORKS)
def test_channels_last_gives_the_same_logits(option: str) -> None:
    torch.manual_seed(1)
    images = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    network = build(option, (3, 8, 8), **CHEAPER.get(option, {})).double().eval()
    with torch.no_grad():
        expected = network(images)
        network = network.to(memory_format=torch.channels_last)
        torch.testing.assert_close(network(images.contiguous(memory_format=torch.channels_last)), expected)


@pytest.mark.parametrize("option", SMALL_NETWORKS)
def test_a_seed_fixes_the_starting_weights(option: str) -> None:
    def weights(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return build(option, (1, 8, 8), **CHEAPER.get(option, {})).state_dict()

    first, again, other = weights(5), weights(5), weights(6)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(
    ("option", "overrides"),
    [
        ("cnn3", {}),
        ("resnet20", {}),
        ("densenet40", {"depth": 13}),
        ("wrn28_10", {"depth": 10, "widen_factor": 1}),
        ("wrn32_4", {"depth": 8, "widths": [8, 16, 32]}),
    ],
)
def test_one_graph_without_breaks(option: str, overrides: dict[str, Any]) -> None:
    """torch.compile must find no Python that depends on data: a break raises with fullgraph."""
    torch.manual_seed(2)
    images = torch.randn(2, 1, 8, 8)
    network = build(option, (1, 8, 8), **overrides).eval()
    torch._dynamo.reset()
    with torch.no_grad():
        compiled = torch.compile(network, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(images), network(images))


def test_he_initialisation_has_the_papers_spread() -> None:
    torch.manual_seed(3)
    convolution = torch.nn.Conv2d(64, 128, kernel_size=3)
    linear = torch.nn.Linear(300, 200)
    norm = torch.nn.BatchNorm2d(5)
    torch.nn.init.normal_(norm.weight)
    initialise(torch.nn.ModuleList([convolution, linear, norm]))
    # sd = sqrt(2 / n_in); over 60,000 draws and more its estimate is within 1 % (3 sigma)
    assert convolution.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.01)
    assert linear.weight.std().item() == pytest.approx((2 / 300) ** 0.5, rel=0.01)
    assert not convolution.bias.any()
    assert not linear.bias.any()
    assert torch.equal(norm.weight, torch.ones(5))
