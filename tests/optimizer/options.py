"""The optimizers of conf/optimizer and a problem for them; a new YAML gets every test from here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import nn

from tempo.optimizer.build import build_optimizer
from tempo.optimizer.capabilities import traits_of_class
from tempo.paths import ROOT
from tests.jobs import options
from tests.optimizer import reference

OPTIONS = options("optimizer")

# option: (equation, its weight decay is decoupled from the gradient). One line gives an optimizer every test.
EQUATIONS: dict[str, tuple[Callable[..., np.ndarray], bool]] = {
    "sgd": (reference.sgd, False),
    "momentum": (reference.momentum, False),
    "nesterov": (reference.nesterov, False),
    "adam": (reference.adam, False),
    "adamw": (reference.adamw, True),
    "nadam": (reference.nadam, False),
    "rmsprop": (reference.rmsprop, False),
    "adagrad": (reference.adagrad, False),
    "lion": (reference.lion, True),
    "schedule_free": (reference.schedule_free, True),
}
# Methods with a line search are held against exact minima and SciPy; settings that make a step a short one.
SOLVERS: dict[str, dict[str, Any]] = {
    "lbfgs": {"max_iter": 2},
    "bfgs": {"max_iter": 1},
    "newton_cg": {"max_cg": 2},
}
# Several rules at work in one network: held against their equations in a file of their own.
COMBINED = ("muon", "muon_with_sgd")
# Settings besides the YAML's own that change the equation.
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((option, {}) for option in EQUATIONS),
    ("momentum", {"dampening": 0.9}),
    ("momentum", {"momentum": 0.5, "dampening": 0.3}),
    ("adam", {"momentum": 0.5, "beta2": 0.9, "eps": 1e-3}),
    ("nadam", {"momentum_decay": 0.5}),
    ("rmsprop", {"momentum": 0.9}),
    ("rmsprop", {"momentum": 0.9, "alpha": 0.9, "centered": True}),
    ("schedule_free", {"warmup_steps": 10, "r": 0.5, "momentum": 0.8}),
    ("adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.5}),
]


def settings(option: str, **overrides: Any) -> dict[str, Any]:
    """An option's node as a plain dictionary."""
    node = OmegaConf.to_container(
        OmegaConf.load(ROOT / "conf" / "optimizer" / f"{option}.yaml"), resolve=True
    )
    assert isinstance(node, dict)
    return {str(key): value for key, value in node.items()} | overrides


@contextmanager
def float64() -> Iterator[None]:
    """Float64 by default, since torch keeps step counters and momentum products in the default type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def training_mode(optimizer: torch.optim.Optimizer) -> None:
    """Schedule-free optimizers must be told that training goes on."""
    getattr(optimizer, "train", lambda: None)()


class LeastSquares:
    """`1/(2n) |X W^T + b - Y|^2` for a linear layer; gradients by autograd, and by hand for the reference."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.x = rng.normal(size=(32, 4))
        self.y = self.x @ rng.normal(size=(4, 3)) + rng.normal(size=3)
        self.start = [rng.normal(size=(3, 4)), rng.normal(size=3)]

    def gradients(self, weight: np.ndarray, bias: np.ndarray) -> list[np.ndarray]:
        """Derivatives for weight [3, 4] and bias [3]."""
        residual = (self.x @ weight.T + bias - self.y) / len(self.x)
        return [residual.T @ self.x, residual.sum(axis=0)]

    def loss(self, model: nn.Module) -> torch.Tensor:
        """The loss of a linear layer."""
        return 0.5 * (model(torch.tensor(self.x)) - torch.tensor(self.y)).square().sum() / len(self.x)

    def model(self) -> nn.Module:
        """A linear layer at the start."""
        model = nn.Linear(4, 3)
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), self.start, strict=True):
                parameter.copy_(torch.tensor(value))
        return model

    def ridge(self, wd: float, decays_bias: bool) -> list[np.ndarray]:
        """The minimum of the loss with `wd/2 |W|^2` (and `wd/2 |b|^2`), from the normal equations."""
        x = np.column_stack([self.x, np.ones(len(self.x))])
        decay = wd * np.diag([1.0] * 4 + [float(decays_bias)])
        solution = np.linalg.solve(x.T @ x / len(x) + decay, x.T @ self.y / len(x))
        return [solution[:4].T, solution[4]]

    def train(self, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        """Take full-batch steps."""
        training_mode(optimizer)

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = self.loss(model)
            if not traits_of_class(type(optimizer)).takes_second_derivatives:
                loss.backward()
            return loss

        for _ in range(steps):
            optimizer.step(closure)

    def trained(self, steps: int, **node: Any) -> nn.Module:
        """A layer after `steps` of the optimizer that `node` describes."""
        model = self.model()
        self.train(model, build_optimizer(model, node), steps)
        return model


class DeepLeastSquares(LeastSquares):
    """The same through three linear layers: the one in the middle is a hidden matrix."""

    def model(self) -> nn.Module:
        """Three layers at the start."""
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 3))


def problem(option: str) -> LeastSquares:
    """One that the option can take."""
    return DeepLeastSquares() if option in COMBINED else LeastSquares()
