"""Rates of parameter groups: decay by depth, factors by name, and a model's own groups."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from tempo.errors import UserError
from tempo.optimizer.build import build_optimizer
from tempo.optimizer.parameter_groups import parameter_groups, rate_scales
from tempo.scheduler.apply_to_optimizer import ScheduleAdapter
from tempo.scheduler.constant import Constant


class Wrapper(nn.Module):
    """A backbone and a head, with groups of its own where it is given some."""

    def __init__(self, groups: Any = None) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 3))
        self.head = nn.Linear(2, 3)
        if groups is not None:
            self.parameter_groups = lambda: groups(self)


def scales(model: nn.Module, layer_decay: float | None = None, **lr_of: float) -> dict[str, float]:
    names = [name for name, _ in model.named_parameters()]
    return rate_scales(model, names, layer_decay, lr_of)


def test_the_rate_decays_from_the_head_to_the_first_block() -> None:
    found = scales(torchvision.models.resnet18(), 0.5)
    # conv1 with its norm, two blocks in each of four layers, fc
    depth = {"conv1.weight": 9, "bn1.bias": 9, "layer1.0.conv1.weight": 8, "layer1.1.bn2.weight": 7}
    depth |= {"layer4.1.conv2.weight": 1, "fc.weight": 0, "fc.bias": 0}
    assert {name: found[name] for name in depth} == {name: 0.5**power for name, power in depth.items()}
    inner = nn.ModuleDict({"model": torchvision.models.resnet18()})
    assert scales(inner, 0.5) == {f"model.{name}": scale for name, scale in found.items()}


def test_the_longest_prefix_counts_and_is_multiplied_with_the_decay() -> None:
    found = scales(Wrapper(), 0.5, **{"backbone": 0.1, "backbone.2": 0.3})
    assert found["backbone.0.weight"] == 0.1 * 0.25
    assert found["backbone.1.weight"] == 0.1 * 0.25
    assert found["backbone.2.bias"] == 0.3 * 0.5
    assert found["head.weight"] == 1
    with pytest.raises(
        UserError, match=r"optimizer.lr_of: 'hed' .* Did you mean 'head'\? Choose from: backb"
    ):
        scales(Wrapper(), hed=0.1)


def test_each_group_has_its_rate_and_its_weight_decay_in_the_optimizer() -> None:
    node = {"_target_": "torch.optim.SGD", "lr": 0.1, "wd": 0.01, "decay_norm_and_bias": False}
    model = Wrapper()
    optimizer = build_optimizer(model, {**node, "layer_decay": 0.5, "lr_of": None})
    ScheduleAdapter(optimizer, Constant(lr=0.8), 1).apply(0)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for name, value in model.named_parameters():
        lr = 0.8 * scales(model, 0.5)[name]
        wd = 0.01 if value.ndim > 1 else 0.0
        torch.testing.assert_close(value, before[name] - lr * (1 + wd * before[name]))
    with pytest.raises(UserError, match=r"one step length .* optimizer.layer_decay=null"):
        build_optimizer(model, {"_target_": "torch.optim.LBFGS", "layer_decay": 0.5})


def test_a_model_may_bring_groups_of_its_own() -> None:
    model = Wrapper(
        lambda own: [
            {"params": own.backbone.parameters(), "lr_scale": 0.1},
            {"params": own.head.parameters(), "weight_decay": 0.0},
        ]
    )
    model.backbone[0].requires_grad_(False)
    groups = parameter_groups(model, wd=0.2, decay_norm_and_bias=True)
    assert [(len(group["params"]), group["weight_decay"], group.get("lr_scale")) for group in groups] == [
        (4, 0.2, 0.1),
        (2, 0.0, None),
    ]
    with pytest.raises(UserError, match=r"optimizer.lr_of has no effect: Wrapper has parameter_groups"):
        parameter_groups(model, wd=None, decay_norm_and_bias=True, lr_of={"head": 0.1})


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        (lambda own: [{"params": own.head.parameters()}], "leaves out backbone.0.weight"),
        (lambda own: [{"params": own.parameters()}, {"params": own.head.bias}], "head.bias in two groups"),
        (lambda own: [{"params": own.parameters(), "lr": 0.1}], "give lr_scale"),
        (lambda own: list(own.parameters()), "must return a list of groups"),
    ],
)
def test_wrong_groups_are_one_line(groups: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parameter_groups(Wrapper(groups), wd=None, decay_norm_and_bias=True)
