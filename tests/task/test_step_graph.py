"""Which steps `trainer.cuda_graph` records; what a recorded step does is tested on a GPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tempo.errors import UserError
from tempo.run.build_network import build_network
from tempo.task.cuda_graph import MicroBatches, StepGraph, difference, parts_of, why_not_recorded
from tests.jobs import checked_job

OWN = ["mlp", "cnn3", "resnet20", "densenet40", "wrn28_10", "wrn32_4"]


def network_of(model: str) -> nn.Module:
    config, _ = checked_job([f"model={model}", "trainer=cpu"])
    with torch.device("meta"):
        return build_network(config.model, config.seed, (3, 32, 32), 10)


def adam(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(network.parameters())


@pytest.mark.parametrize("model", OWN)
def test_auto_records_tempos_own_networks(model: str) -> None:
    network = network_of(model)
    assert why_not_recorded("auto", network, adam(network), straight=True) == ""
    assert why_not_recorded(False, network, adam(network), straight=True) == "trainer.cuda_graph=false"


def test_auto_records_a_users_network_if_its_class_says_static_graph() -> None:
    class Mine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(4, 2)

    class Static(Mine):
        static_graph = True

    class ChangesForward(Static):
        pass

    for network, unknown in (
        (Mine(), "Mine"),
        (nn.Sequential(Mine()), "Mine"),
        (ChangesForward(), "ChangesFo"),
    ):
        assert f"the class {unknown}" in why_not_recorded("auto", network, adam(network), straight=True)
        assert why_not_recorded(True, network, adam(network), straight=True) == ""
    assert why_not_recorded("auto", Static(), adam(Static()), straight=True) == ""


def test_auto_does_not_record_an_unknown_optimizer() -> None:
    """It may keep the gradient tensors of a step, which a graph overwrites."""
    network = network_of("mlp")

    class KeepsGradients(torch.optim.SGD):
        pass

    optimizer = KeepsGradients(network.parameters(), lr=0.1)
    assert "the class KeepsGradients" in why_not_recorded("auto", network, optimizer, straight=True)


@pytest.mark.parametrize("hook", ["module", "tensor", "between steps"])
def test_what_needs_python_at_each_step_is_not_skipped(hook: str) -> None:
    network = nn.Linear(4, 2)
    if hook == "module":
        network.register_forward_hook(lambda *_: None)
    elif hook == "tensor":
        network.weight.register_post_accumulate_grad_hook(lambda _: None)
    straight = hook != "between steps"
    assert "at each step" in why_not_recorded("auto", network, adam(network), straight=straight)
    with pytest.raises(UserError, match=r"trainer\.cuda_graph=auto"):
        why_not_recorded(True, network, adam(network), straight=straight)


def test_a_changed_network_is_noticed() -> None:
    network = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2))
    before = parts_of(network)
    assert parts_of(network) == before
    with torch.no_grad():
        network[0].weight.add_(1)  # a step in place
    assert parts_of(network) == before
    network[0].bias.requires_grad_(False)
    frozen = parts_of(network)
    assert frozen != before
    network[1].eval()
    assert parts_of(network) != frozen


def test_a_recording_that_fails_leaves_no_trace() -> None:
    """`auto` then takes the step without a graph: from the same statistics, with no gradient left over."""
    network = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    batch = [(torch.randn(8, 4), torch.arange(8) % 2)]

    def passes(batch: MicroBatches) -> tuple[list[Tensor], list[Tensor]]:
        nn.functional.cross_entropy(network(batch[0][0]), batch[0][1]).backward()
        assert network[0].weight.grad is not None
        raise torch.OutOfMemoryError("as a GPU that is too small")

    with pytest.raises(torch.OutOfMemoryError):
        StepGraph(network, passes, lambda: None, batch)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def measured(network: nn.Module, images: Tensor, precision: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
    labels = torch.arange(len(images)) % 10
    with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
        loss = nn.functional.cross_entropy(network(images), labels)
    network.zero_grad()
    loss.backward()
    return (
        [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None],
        [loss.detach(), *(buffer.clone() for buffer in network.buffers())],
    )


def test_other_kernels_are_no_difference_and_another_function_is_one() -> None:
    """In bfloat16 the order of sums moves the first layers' gradients by more than 5 %."""
    config, _ = checked_job(["model=resnet56", "trainer=cpu"])
    networks = [build_network(config.model, config.seed, (3, 16, 16), 10) for _ in range(2)]
    images = nn.functional.avg_pool2d(torch.randn(64, 3, 18, 18), 3, 1)
    first = measured(networks[0], images, torch.bfloat16)
    networks[1].to(memory_format=torch.channels_last)
    second = measured(networks[1], images.contiguous(memory_format=torch.channels_last), torch.bfloat16)
    own = max(float((a - b).norm() / b.norm()) for a, b in zip(first[0], second[0], strict=True))
    assert own > 0.05
    assert not difference(first, second, deterministic=False)
    assert "off by" in difference(first, second, deterministic=True)
    assert not difference(first, first, deterministic=True)

    other_images = measured(networks[0], -images, torch.bfloat16)
    assert "off by" in difference(other_images, first, deterministic=False)
    halved = ([gradient / 2 for gradient in first[0]], first[1])
    assert "off by" in difference(halved, first, deterministic=False)
    assert difference((first[0][1:], first[1]), first, deterministic=False) == "gradients of other parameters"


def test_a_single_wrong_tensor_shows_where_kernels_give_the_same_bits() -> None:
    others = [torch.ones(1)]
    expected = [torch.full((10,), 1e4), torch.ones(2)]
    wrong = [expected[0], expected[1] * 1.001]  # 4e-8 of all gradients together
    assert "off by" in difference((wrong, others), (expected, others), deterministic=True)
    assert not difference((wrong, others), (expected, others), deterministic=False)
