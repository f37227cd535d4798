"""Methods with a line search against exact minima."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, rosen, rosen_der
from torch import nn

from tempo.errors import UserError
from tempo.optimizer.build import build_optimizer
from tempo.optimizer.capabilities import traits_of_class
from tests.optimizer.options import SOLVERS, LeastSquares, float64, settings

PROBLEM = LeastSquares()
SCIPY = {"bfgs": "BFGS", "newton_cg": "Newton-CG"}


class Valley(nn.Module):
    """Rosenbrock's function of x `[n]`: a curved valley with its minimum at (1, .., 1)."""

    def __init__(self, start: list[float]) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.tensor(start))

    def value(self) -> torch.Tensor:
        return (100 * (self.x[1:] - self.x[:-1] ** 2) ** 2 + (1 - self.x[:-1]) ** 2).sum()


class Bowl(nn.Module):
    """`x^T A x / 2 - b^T x`, A positive definite `[6, 6]`, with its minimum at `A^-1 b`."""

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        root = rng.normal(size=(6, 6))
        self.a, self.b = root @ root.T + 0.1 * np.eye(6), rng.normal(size=6)
        self.x = nn.Parameter(torch.zeros(6))

    def value(self) -> torch.Tensor:
        return 0.5 * self.x @ torch.tensor(self.a) @ self.x - torch.tensor(self.b) @ self.x


def minimized(model, steps, **node):
    """Calls of the closure and the optimizer after `steps`."""
    optimizer, calls = build_optimizer(model, node), 0

    def closure():
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        value = model.value()
        if not traits_of_class(type(optimizer)).takes_second_derivatives:
            value.backward()
        return value

    for _ in range(steps):
        optimizer.step(closure)
    return calls, optimizer


@pytest.mark.parametrize("option", SCIPY)
@pytest.mark.parametrize("start", [[-1.2, 1.0], [1.3, 0.7, 0.8, 1.9, 1.2]])
def test_rosenbrocks_valley_as_scipy_does(option, start):
    theirs = minimize(rosen, start, jac=rosen_der, method=SCIPY[option])
    with float64():
        model = Valley(start)
        calls, _ = minimized(model, 2 * theirs.nit, **settings(option, max_iter=1))
    found = model.x.detach().numpy()
    np.testing.assert_allclose(found, theirs.x, atol=1e-3)
    assert rosen(found) <= max(theirs.fun, 1e-9)
    assert calls < 4 * theirs.nfev


def test_bfgs_ends_a_quadratic_in_n_steps_with_the_inverse_hessian():
    """Nocedal & Wright, theorem 6.4: with exact line searches, H_n = A^-1."""
    with float64():
        model = Bowl()
        minimized(model, 5, **settings("bfgs", max_iter=1, c2=1e-10))
        before = model.x.detach().numpy().copy()
        model = Bowl()
        _, optimizer = minimized(model, 6, **settings("bfgs", max_iter=1, c2=1e-10))
    exact = np.linalg.solve(model.a, model.b)
    assert np.abs(before - exact).max() > 1e-3
    np.testing.assert_allclose(model.x.detach().numpy(), exact, atol=1e-9)
    found = optimizer.state[model.x]["inverse_hessian"].numpy()
    np.testing.assert_allclose(found, np.linalg.inv(model.a), atol=1e-8)


def test_newton_ends_a_quadratic_in_one_step_of_n_products():
    with float64():
        model = Bowl()
        calls, optimizer = minimized(model, 1, **settings("newton_cg", forcing=1e-12, max_cg=6))
    np.testing.assert_allclose(model.x.detach().numpy(), np.linalg.solve(model.a, model.b), atol=1e-9)
    assert (calls, optimizer.hessian_products) == (2, 6)


def test_newton_leaves_a_saddle_downhill():
    """Negative curvature ends the conjugate gradients; what was found so far still descends."""

    class Saddle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x = nn.Parameter(torch.tensor([1.0, 1e-3]))

        def value(self) -> torch.Tensor:
            return self.x[0] ** 2 - self.x[1] ** 2 + self.x[1] ** 4

    with float64():
        model = Saddle()
        minimized(model, 30, **settings("newton_cg"))
    np.testing.assert_allclose(np.abs(model.x.detach().numpy()), [0.0, 0.5**0.5], atol=1e-6)


def test_memory_is_computed_before_it_is_taken():
    model = nn.Linear(1000, 1000)  # a million weights and a thousand: 4 TB
    with pytest.raises(UserError) as caught:
        build_optimizer(model, settings("bfgs"))
    assert "1,001,000 parameters takes 1,001,000^2 x 4 bytes = 4,008.00 GB" in str(caught.value)
    assert "optimizer.max_memory_gb=2" in str(caught.value)
    with float64():
        build_optimizer(nn.Linear(99, 1), settings("bfgs", max_memory_gb=8e-5))
        with pytest.raises(UserError, match="100\\^2 x 8 bytes"):
            build_optimizer(nn.Linear(99, 1), settings("bfgs", max_memory_gb=7.9e-5))


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
