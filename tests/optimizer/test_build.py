"""Parameter groups, torch's names for the knobs, and what is refused."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from tempo.errors import UserError
from tempo.optimizer.build import build_optimizer, parameter_groups, torch_arguments
from tempo.optimizer.traits import traits_of_class
from tests.optimizer.options import OPTIONS, settings, training_mode

TORCH_CLASSES = ["ASGD", "Adadelta", "Adafactor", "Adamax", "LBFGS", "Muon", "RAdam", "Rprop", "SparseAdam"]


def small_network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


def names(model: nn.Module, group: dict) -> set[str]:
    wanted = {id(parameter) for parameter in group["params"]}
    return {name for name, parameter in model.named_parameters() if id(parameter) in wanted}


def test_everything_decays_by_default():
    model = small_network()
    (group,) = parameter_groups(model, wd=0.1, decay_norm_and_bias=True)
    assert group["weight_decay"] == 0.1
    assert names(model, group) == {name for name, _ in model.named_parameters()}


def test_norm_and_bias_are_spared_on_request():
    model = small_network()
    decayed, spared = parameter_groups(model, wd=0.1, decay_norm_and_bias=False)
    assert names(model, decayed) == {"0.weight", "3.weight"}
    assert names(model, spared) == {"0.bias", "1.weight", "1.bias", "3.bias"}
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)


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


def test_frozen_parameters_are_left_out():
    model = small_network()
    for parameter in model[0].parameters():
        parameter.requires_grad_(False)
    groups = parameter_groups(model, wd=0.1, decay_norm_and_bias=False)
    assert {name for group in groups for name in names(model, group)} == {
        "1.weight", "1.bias", "3.weight", "3.bias",
    }  # fmt: skip


def test_no_empty_group():
    (group,) = parameter_groups(nn.BatchNorm1d(3), wd=0.1, decay_norm_and_bias=False)
    assert group["weight_decay"] == 0.0
    (group,) = parameter_groups(nn.Linear(2, 2, bias=False), wd=0.1, decay_norm_and_bias=False)
    assert group["weight_decay"] == 0.1


def test_a_shared_parameter_appears_once():
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    (group,) = parameter_groups(nn.Sequential(first, second), wd=0.1, decay_norm_and_bias=True)
    assert len(group["params"]) == 3


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
    """`fused: null` stands in most options; a class that has no such argument is no reason to refuse it."""
    settings_of_momentum = settings("momentum", _target_="torch.optim.RMSprop", alpha=0.9)
    assert settings_of_momentum["fused"] is None
    del settings_of_momentum["dampening"]
    optimizer = build_optimizer(nn.Linear(2, 2), settings_of_momentum)
    assert type(optimizer) is torch.optim.RMSprop


def test_a_list_becomes_the_tuple_that_torch_wants():
    optimizer = build_optimizer(
        nn.Linear(2, 2), {"_target_": "torch.optim.Rprop", "lr": 0.1, "etas": [0.4, 1.3]}
    )
    assert optimizer.param_groups[0]["etas"] == (0.4, 1.3)


@pytest.mark.parametrize(
    ("option", "overrides", "part"),
    [
        (
            "momentum",
            {"momentun": 0.9},
            "optimizer.momentun is not a setting of SGD. Did you mean 'momentum'?",
        ),
        ("momentum", {"beta2": 0.9}, "Remove it with ~optimizer.beta2"),
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
