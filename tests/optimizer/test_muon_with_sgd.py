"""Muon for filters, SGD for the rest: against the published rules in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tempo.errors import UserError
from tempo.optimizer.build import build_optimizer
from tempo.optimizer.muon_with_sgd import orthogonalized
from tempo.scheduler.apply_to_optimizer import ScheduleAdapter
from tempo.scheduler.constant import Constant
from tests.optimizer.options import float64, settings


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 30, 1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(270, 5), nn.ReLU(), nn.Linear(5, 3)),
    )


def trained(node: dict[str, Any], steps: int, *, save_after: int | None = None) -> tuple[Any, Any, Any]:
    """The network after some steps, and before each step its weights and gradients by name."""
    model = network()
    optimizer = build_optimizer(model, node)
    images, labels = torch.randn(8, 2, 5, 5), torch.arange(8) % 3
    weights, gradients = [], []
    for step in range(steps):
        if step == save_after:
            state = optimizer.state_dict()
            optimizer = build_optimizer(model, node)
            optimizer.load_state_dict(state)
        F.cross_entropy(model(images), labels).backward()
        weights.append({name: p.detach().numpy().copy() for name, p in model.named_parameters()})
        gradients.append({name: p.grad.numpy().copy() for name, p in model.named_parameters()})
        ScheduleAdapter(optimizer, Constant(lr=node["lr"]), steps).apply(step)  # as in a run
        optimizer.step()
        optimizer.zero_grad()
    return {name: p.detach().numpy() for name, p in model.named_parameters()}, weights, gradients


def newton_schulz(g: np.ndarray, steps: int) -> np.ndarray:
    """The quintic of Jordan et al. 2024 on the singular values alone, by an SVD."""
    left, sizes, right = np.linalg.svd(g, full_matrices=False)
    sizes = sizes / (np.sqrt((g**2).sum()) + 1e-7)
    for _ in range(steps):
        sizes = 3.4445 * sizes - 4.7750 * sizes**3 + 2.0315 * sizes**5
    return left @ np.diag(sizes) @ right


MUON = {"0.weight", "3.weight", "6.weight"}


@pytest.mark.parametrize("unit_filters", [True, False])
def test_every_parameter_follows_its_rule(unit_filters: bool) -> None:
    node = settings("muon_with_sgd", lr=0.1, wd=0.03, unit_filters=unit_filters)
    with float64():
        found, weights, gradients = trained(node, 3)
    for name in found:
        momentum = node["momentum"] if name in MUON else node["sgd_momentum"]
        p, v = weights[0][name], 0.0
        for of_step in gradients:
            g = of_step[name] + 0.03 * p
            v = momentum * v + g
            ahead = g + momentum * v
            if name not in MUON:
                p = p - 0.1 * node["lr_of_rest"] * ahead
                continue
            rows = len(p)
            if unit_filters:
                p = p * np.sqrt(rows / (p**2).sum())
            step = newton_schulz(ahead.reshape(rows, -1), node["ns_steps"])
            p = p - 0.1 * np.sqrt(max(1, rows / step.shape[1])) * step.reshape(p.shape)
        np.testing.assert_allclose(found[name], p, atol=1e-9, err_msg=name)


def test_five_iterations_make_a_matrix_nearly_orthogonal() -> None:
    torch.manual_seed(1)
    sizes = torch.linalg.svdvals(orthogonalized(torch.randn(20, 60), 5))
    assert 0.6 < sizes.min() < sizes.max() < 1.25


def test_a_restored_state_goes_on_to_the_same_bits() -> None:
    node = settings("muon_with_sgd")
    through, *_ = trained(node, 4)
    restored, *_ = trained(node, 4, save_after=2)
    for name, value in through.items():
        assert (value == restored[name]).all(), name


def test_a_network_without_filters_is_refused() -> None:
    with pytest.raises(UserError, match="optimizer=muon_with_sgd is for filters"):
        build_optimizer(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), settings("muon_with_sgd"))
