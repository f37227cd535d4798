"""What holds for every option of conf/optimizer."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tempo.optimizer.build import build_optimizer
from tests.optimizer.options import (
    COMBINED,
    EQUATIONS,
    OPTIONS,
    SOLVERS,
    VARIANTS,
    LeastSquares,
    float64,
    problem,
    settings,
)

PROBLEM = LeastSquares()
STEPS = 25


def reference_run(option: str, node: dict[str, Any], decays: tuple[bool, bool]) -> list[np.ndarray]:
    """Weight and bias after STEPS of the equation, decay applied to those that do."""
    equation, decoupled = EQUATIONS[option]
    parameters = [value.copy() for value in PROBLEM.start]
    states: list[dict[str, Any]] = [{}, {}]
    for t in range(1, STEPS + 1):
        gradients = PROBLEM.gradients(*parameters)
        for i, decay in enumerate(decays):
            own = node | {"wd": node["wd"] if decay else 0.0}
            gradient = gradients[i] if decoupled else gradients[i] + own["wd"] * parameters[i]
            parameters[i] = equation(parameters[i], gradient, t, states[i], own)
    return parameters


def test_every_yaml_is_in_the_table():
    assert sorted([*EQUATIONS, *SOLVERS, *COMBINED]) == OPTIONS


@pytest.mark.parametrize(("option", "overrides"), VARIANTS)
@pytest.mark.parametrize("decay_norm_and_bias", [True, False])
def test_equal_to_its_equation(option, overrides, decay_norm_and_bias):
    node = settings(option, **{"wd": 0.05, "decay_norm_and_bias": decay_norm_and_bias, **overrides})
    expected = reference_run(option, node, decays=(True, decay_norm_and_bias))
    with float64():
        model = PROBLEM.trained(STEPS, **node)
    for parameter, value in zip(model.parameters(), expected, strict=True):
        np.testing.assert_allclose(parameter.detach().numpy(), value, rtol=0, atol=1e-10)
    moved = [np.abs(value - start).max() for value, start in zip(expected, PROBLEM.start, strict=True)]
    assert min(moved) > 1e-3, "the comparison means something only where the parameters moved"


@pytest.mark.parametrize("option", OPTIONS)
def test_descends(option):
    given = problem(option)
    with float64():
        before = given.loss(given.model()).item()
        after = given.loss(given.trained(400, **settings(option, lr=0.1, wd=0.0))).item()
    assert after < 0.05 * before


@pytest.mark.parametrize("option", OPTIONS)
def test_resumes_exactly_from_its_saved_state(option):
    node, given = settings(option, **SOLVERS.get(option, {})), problem(option)
    with float64():
        whole = given.trained(12, **node)

        cut = given.model()
        optimizer = build_optimizer(cut, node)
        given.train(cut, optimizer, 7)
        file = io.BytesIO()
        torch.save({"model": cut.state_dict(), "optimizer": optimizer.state_dict()}, file)
        file.seek(0)
        saved = torch.load(file, weights_only=True)

        resumed = given.model()
        resumed.load_state_dict(saved["model"])
        optimizer = build_optimizer(resumed, node)
        optimizer.load_state_dict(saved["optimizer"])
        given.train(resumed, optimizer, 5)
    for left, right in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_setting_of_the_yaml_reaches_torch(option):
    changed = {"lr": 0.0123, "wd": 0.0456, "momentum": 0.789, "beta2": 0.987, "eps": 1e-5, "alpha": 0.55}
    changed |= {"adamw_momentum": 0.678, "c1": 0.01, "c2": 0.8, "forcing": 0.1}
    node = settings(option)
    node |= {key: value for key, value in changed.items() if key in node}
    node |= {key: not node[key] for key in ("nesterov", "centered") if key in node}
    groups = build_optimizer(problem(option).model(), node).param_groups
    group = {key: value for found in reversed(groups) for key, value in found.items()}  # the first one counts
    arrived = {"lr": group["lr"], "wd": group["weight_decay"]}
    if option == "muon_with_sgd":
        arrived["sgd_momentum"], arrived["lr_of_rest"] = groups[-1]["momentum"], groups[-1]["lr_scale"]
    elif option in COMBINED:
        (arrived["adamw_momentum"], arrived["beta2"]), arrived["eps"] = group["betas"], groups[-1]["eps"]
    elif "betas" in group:
        arrived["momentum"], arrived["beta2"] = group["betas"]
    for key, value in node.items():
        if key not in ("_target_", "decay_norm_and_bias") and value is not None:
            assert arrived.get(key, group.get(key)) == value, key


@pytest.mark.parametrize("option", OPTIONS)
def test_one_kernel_where_torch_has_one(option):
    """`fused` is on exactly where the YAML offers it, and off when told so."""
    node = settings(option)
    assert build_optimizer(problem(option).model(), node).param_groups[0].get("fused") is (
        True if "fused" in node else None
    )
    if "fused" in node:
        assert build_optimizer(nn.Linear(2, 2), node | {"fused": False}).param_groups[0]["fused"] is False


@pytest.mark.parametrize("option", [option for option in OPTIONS if "fused" in settings(option)])
def test_the_one_kernel_computes_the_same(option):
    with float64():
        fused = PROBLEM.trained(STEPS, **settings(option))
        plain = PROBLEM.trained(STEPS, **settings(option, fused=False))
    for left, right in zip(fused.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-12)
