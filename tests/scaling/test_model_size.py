"""Parameters and operations against what is published of the networks."""

from __future__ import annotations

import importlib.util

import pytest

from tempo.errors import UserError
from tempo.report.markdown import markdown
from tempo.scaling.model_size import size_of
from tempo.scaling.model_table import models_table, read_sizes, write_sizes
from tempo.scaling.plan import Network


def torchvision(name: str) -> Network:
    return Network(name, {"_target_": "tempo.model.torchvision_model.torchvision_model", "name": name})


# Parameters and multiply-adds at 224x224 from torchvision's documentation of its weights.
PUBLISHED = [
    ("vgg16", 138357544, 15.47),
    ("vgg19", 143667240, 19.63),
    ("resnet50", 25557032, 4.09),
    ("resnet152", 60192808, 11.51),
]


@pytest.mark.parametrize(("name", "parameters", "giga_multiply_adds"), PUBLISHED)
def test_published_numbers(name: str, parameters: int, giga_multiply_adds: float) -> None:
    found = size_of(torchvision(name), image_size=256, classes=1000)
    assert found.parameters == parameters
    assert found.gradient_bytes == 4 * parameters
    assert found.flops_at_224 is not None
    assert found.flops_at_224 / 2e9 == pytest.approx(giga_multiply_adds, rel=0.002)
    assert found.flops is not None
    assert found.flops > 1.25 * found.flops_at_224  # (256 / 224)^2 = 1.31, but for the last layers


def test_inception_v4_has_the_usual_count_and_not_the_papers() -> None:
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    network = Network(
        "inception_v4", {"_target_": "tempo.model.timm_model.timm_model", "name": "inception_v4"}
    )
    found = size_of(network, image_size=299, classes=1000)
    assert found.parameters == pytest.approx(42.7e6, rel=0.001)
    assert found.flops is not None
    assert found.flops / 2e9 == pytest.approx(12.28, rel=0.005)  # timm's table of results, at 299x299
    table = markdown(models_table([found]))
    assert "| 42.7 | 65 |" in table


def test_an_unknown_network_is_one_line() -> None:
    with pytest.raises(UserError, match="resnet5"):
        size_of(torchvision("resnet5o"), image_size=64, classes=10)


def test_sizes_are_kept_for_a_report_without_torch(tmp_path) -> None:
    found = size_of(torchvision("resnet50"), image_size=64, classes=10)
    write_sizes([found], tmp_path)
    assert read_sizes([tmp_path]) == [found]
