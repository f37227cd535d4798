"""Parameter groups, torch's names for the knobs, and what is refused."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from tempo.errors import UserError
from tempo.optimizer.build import build_optimizer, torch_arguments
from tempo.optimizer.capabilities import traits_of_class
from tempo.optimizer.parameter_groups import parameter_groups
from tests.optimizer.options import OPTIONS, settings, training_mode

TORCH_CLASSES = ["ASGD", "Adadelta", "Adafactor", "Adamax", "LBFGS", "Muon", "RAdam", "Rprop", "SparseAdam"]


def small_network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


def names(model: nn.Module, group: dict) -> set[str]:
    wanted = {id(parameter) for parameter in group["params"]}
    return {name for name, parameter in model.named_parameters() if id(parameter) in wanted}


def frozen_start() -> nn.Sequential:
    model = small_network()
    model[0].requires_grad_(False)
    return model


def shared_weight() -> nn.Sequential:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    return nn.Sequential(first, second)


WEIGHTS, SPARED = {"0.weight", "3.weight"}, {"0.bias", "1.weight", "1.bias", "3.bias"}


@pytest.mark.parametrize(
    ("model", "decay_norm_and_bias", "expected"),
    [
        (small_network(), True, {0.1: WEIGHTS | SPARED}),
        (small_network(), False, {0.1: WEIGHTS, 0.0: SPARED}),
        (frozen_start(), False, {0.1: {"3.weight"}, 0.0: SPARED - {"0.bias"}}),
        (shared_weight(), True, {0.1: {"0.weight", "0.bias", "1.bias"}}),
        (nn.BatchNorm1d(3), False, {0.0: {"weight", "bias"}}),
        (nn.Linear(2, 2, bias=False), False, {0.1: {"weight"}}),
    ],
)
def test_parameters_that_decay(model, decay_norm_and_bias, expected):
    groups = parameter_groups(model, wd=0.1, decay_norm_and_bias=decay_norm_and_bias)
    assert {group["weight_decay"]: names(model, group) for group in groups} == expected
    parameters = [parameter for group in groups for parameter in group["params"]]
    assert len(parameters) == len(set(map(id, parameters)))


@pytest.mark.parametrize("option", OPTIONS)
def test_spared_parameters_keep_still_without_a_gradient(option):
    """With a gradient of zero, only weight decay moves a parameter."""
    model = nn.Sequential(*small_network(), nn.Linear(3, 3), nn.Linear(3, 2))
    optimizer = build_optimizer(model, settings(option, wd=0.5, decay_norm_and_bias=False))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = sum((0.0 * parameter).sum() for parameter in model.parameters())
        if not traits_of_class(type(optimizer)).takes_second_derivatives:
            loss.backward()
        return loss

    training_mode(optimizer)
    optimizer.step(closure)
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {"0.weight", "3.weight", "4.weight", "5.weight"}


def test_nothing_to_train():
    model = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(UserError, match="no parameter to train"):
        build_optimizer(model, settings("sgd"))


def test_knobs_get_torchs_names():
    arguments = torch_arguments(torch.optim.Adam, {"lr": 0.1, "wd": 0.2, "momentum": 0.3, "beta2": 0.4})
    assert arguments == {"lr": 0.1, "weight_decay": 0.2, "betas": (0.3, 0.4), "fused": True}
    arguments = torch_arguments(torch.optim.Adam, {"momentum": 0.3})
    assert arguments["betas"] == (0.3, 0.999), "torch's own default beside it"
    arguments = torch_arguments(
        torch.optim.RMSprop, {"wd": 0.2, "momentum": 0.3, "decay_norm_and_bias": True}
    )
    assert arguments == {"weight_decay": 0.2, "momentum": 0.3}


@pytest.mark.parametrize("other", ["foreach", "differentiable"])
def test_what_excludes_the_fused_kernel_switches_it_off(other):
    group = build_optimizer(nn.Linear(2, 2), settings("momentum", **{other: True})).param_groups[0]
    assert (group["fused"], group[other]) == (False, True)


@pytest.mark.parametrize("name", TORCH_CLASSES)
def test_any_optimizer_of_torch_needs_one_yaml(name):
    model = nn.Linear(2, 2, bias=False)
    optimizer = build_optimizer(model, {"_target_": f"torch.optim.{name}", "lr": 0.01})
    assert type(optimizer) is getattr(torch.optim, name)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(torch.ones(1, 2)).square().sum()
        loss.backward()
        if name == "SparseAdam":
            model.weight.grad = model.weight.grad.to_sparse()
        return loss

    before = closure().item()
    optimizer.step(closure)
    assert closure().item() < before


def test_no_kernel_chosen_fits_a_class_without_a_choice():
    """`fused: null` is in most options; it must not refuse a class that has no such argument."""
    node = settings("sgd", _target_="torch.optim.Rprop", etas=[0.4, 1.3])
    assert node["fused"] is None
    del node["wd"]
    optimizer = build_optimizer(nn.Linear(2, 2), node)
    assert optimizer.param_groups[0]["etas"] == (0.4, 1.3), "a list becomes the tuple that torch wants"


@pytest.mark.parametrize(
    ("option", "overrides", "part"),
    [
        (
            "momentum",
            {"momentun": 0.9},
            "optimizer.momentun is not a setting of SGD. Did you mean 'momentum'?",
        ),
        ("momentum", {"beta2": 0.9}, "Leave it out (or ~optimizer.beta2)"),
        ("adagrad", {"momentum": 0.9}, "optimizer.momentum is not a setting of Adagrad"),
        ("rmsprop", {"fused": True}, "optimizer.fused is not a setting of RMSprop"),
        ("sgd", {"weight_decay": 0.1}, "is called optimizer.wd here"),
        ("adam", {"betas": [0.9, 0.99]}, "is called optimizer.momentum and optimizer.beta2 here"),
        ("nesterov", {"dampening": 0.5}, "Nesterov momentum requires"),
        ("rmsprop", {"alpha": -1.0}, "optimizer.alpha=-1.0"),
        ("muon", {}, "optimizer=muon is for matrices between the first layer and the last"),
        ("bfgs", {"max_memory_gb": 1e-9}, "6 parameters takes 6^2 x 4 bytes = 0.00 GB, more than"),
        ("sgd", {"_target_": "torch.optim.SDG"}, "Did you mean 'SGD'?"),
        ("sgd", {"_target_": "torch.optin.SGD"}, "cannot be imported (No module named 'torch.optin')"),
        ("sgd", {"_target_": "torch.nn.Linear"}, "is not an optimizer"),
        ("sgd", {"_target_": "SGD"}, "not the dotted path"),
        ("sgd", {"_target_": ""}, "not the dotted path"),
    ],
)
def test_refused_in_one_line(option, overrides, part):
    with pytest.raises(UserError, match=re.escape(part)) as caught:
        build_optimizer(nn.Linear(2, 2), settings(option, **overrides))
    assert "\n" not in str(caught.value)
    assert re.search(r"optimizer[.=]", str(caught.value))
