"""Muon for hidden matrices, AdamW for all else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tempo.optimizer.build import build_optimizer
from tempo.scheduler.apply_to_optimizer import ScheduleAdapter
from tempo.scheduler.onecycle import OneCycle
from tests.optimizer import reference
from tests.optimizer.options import DeepLeastSquares, float64, settings

PROBLEM = DeepLeastSquares()


def one_step(**overrides):
    """Parameters before, their gradients, parameters after, by name; and the settings."""
    node = settings("muon", **overrides)
    model = PROBLEM.model()
    before = {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
    optimizer = build_optimizer(model, node)
    PROBLEM.train(model, optimizer, 1)
    gradients = {name: p.grad.numpy() for name, p in model.named_parameters()}
    after = {name: p.detach().numpy() for name, p in model.named_parameters()}
    return before, gradients, after, node


def test_all_but_the_hidden_matrix_is_adamws():
    with float64():
        before, gradients, after, node = one_step(wd=0.3)
    words = node | {"momentum": node["adamw_momentum"]}
    for name in set(before) - {"1.weight"}:
        expected = reference.adamw(before[name], gradients[name], 1, {}, words)
        np.testing.assert_allclose(after[name], expected, atol=1e-12)


@pytest.mark.parametrize("adjust", ["match_rms_adamw", "original"])
def test_the_hidden_matrix_takes_an_orthogonal_step(adjust):
    """Newton-Schulz in bfloat16 brings singular values near 1; their vectors stay the gradient's."""
    with float64():
        before, gradients, after, node = one_step(wd=0.3, adjust_lr_fn=adjust)
    scale = 0.2 * 5**0.5 if adjust == "match_rms_adamw" else 1.0  # of a 5 x 5 matrix
    decayed = before["1.weight"] * (1 - node["lr"] * 0.3)
    step = (decayed - after["1.weight"]) / (node["lr"] * scale)
    values = np.linalg.svd(step, compute_uv=False)
    left, sizes, right = np.linalg.svd(gradients["1.weight"])
    assert values.max() < 1.3
    kept = sizes > 0.02 * sizes.max()  # five iterations do not lift what is smaller
    along = np.diag(left.T @ step @ right.T)
    assert (along[kept] > 0.6).all()
    assert kept.sum() >= 2


def test_a_schedule_moves_both():
    optimizer = build_optimizer(PROBLEM.model(), settings("muon"))
    schedule = OneCycle(min_lr=0.1, max_lr=1.0)
    pace = ScheduleAdapter(optimizer, schedule, 101)
    optimizer.load_state_dict(optimizer.state_dict())  # replaces the groups of both
    pace.apply(45)
    assert optimizer.muon.param_groups[0]["lr"] == optimizer.adamw.param_groups[0]["lr"] == pytest.approx(1.0)
    assert optimizer.muon.param_groups[0]["momentum"] == pytest.approx(0.85)
    assert optimizer.adamw.param_groups[0]["betas"][0] == pytest.approx(0.85)


def test_filters_and_the_ends_go_to_adamw():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.Conv2d(4, 4, 3),
        nn.Flatten(),
        nn.Linear(4, 5),
        nn.Linear(5, 6),
        nn.Linear(6, 2),
    )
    optimizer = build_optimizer(model, settings("muon"))
    assert [tuple(p.shape) for p in optimizer.muon.param_groups[0]["params"]] == [(5, 4), (6, 5)]
    everything = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert everything == {id(p) for p in model.parameters()}
    assert isinstance(optimizer, torch.optim.Optimizer)
