"""Methods with a line search against exact minima."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tempo.optimizer.build import build_optimizer
from tests.optimizer.options import SOLVERS, LeastSquares, float64, settings

PROBLEM = LeastSquares()


@pytest.mark.parametrize("option", SOLVERS)
@pytest.mark.parametrize("decay_norm_and_bias", [True, False])
def test_weight_decay_is_a_ridge(option, decay_norm_and_bias):
    node = settings(option, wd=0.3, decay_norm_and_bias=decay_norm_and_bias)
    with float64():
        model = PROBLEM.trained(10, **node)
    for parameter, value in zip(model.parameters(), PROBLEM.ridge(0.3, decay_norm_and_bias), strict=True):
        np.testing.assert_allclose(parameter.detach().numpy(), value, rtol=0, atol=1e-5)


def test_lbfgs_is_torchs_own():
    with float64():
        ours = PROBLEM.trained(3, **settings("lbfgs", max_iter=2))
        model = PROBLEM.model()
        theirs = torch.optim.LBFGS(
            model.parameters(), max_iter=2, history_size=10, line_search_fn="strong_wolfe"
        )
        PROBLEM.train(model, theirs, 3)
    for left, right in zip(ours.parameters(), model.parameters(), strict=True):
        assert torch.equal(left, right)


def test_any_memory_layout():
    """L-BFGS of torch flattens gradients as views, which those of channels-last filters do not allow."""
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).to(memory_format=layout)
        images = torch.randn(8, 3, 7, 7).to(memory_format=layout)
        optimizer = build_optimizer(model, settings("lbfgs", max_iter=4))

        def closure(model=model, images=images, optimizer=optimizer):
            optimizer.zero_grad()
            loss = model(images).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)
        results.append([parameter.detach().contiguous() for parameter in model.parameters()])
    for left, right in zip(*results, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-5)
