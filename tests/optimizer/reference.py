"""Each optimizer's equation in NumPy, float64, as its paper has it and as slow as it likes.

A rule takes a parameter p, its gradient g, the number t = 1, 2, .. of the step, a dictionary `s` that keeps
what it remembers, and the settings `k` of the configuration. It returns the new parameter. Weight decay in
its L2 form is in the gradient already, except for AdamW.
"""

from __future__ import annotations

from typing import Any

import numpy as np

State = dict[str, Any]
Settings = dict[str, Any]


def sgd(p: np.ndarray, g: np.ndarray, t: int, s: State, k: Settings) -> np.ndarray:
    """Robbins and Monro 1951: p <- p - lr g."""
    return p - k["lr"] * g


def momentum(p: np.ndarray, g: np.ndarray, t: int, s: State, k: Settings) -> np.ndarray:
    """Polyak 1964 in Sutskever's form: v <- m v + (1 - d) g, p <- p - lr v; v starts as g."""
    s["v"] = g if t == 1 else k["momentum"] * s["v"] + (1 - k["dampening"]) * g
    return p - k["lr"] * s["v"]


def nesterov(p: np.ndarray, g: np.ndarray, t: int, s: State, k: Settings) -> np.ndarray:
    """Sutskever et al. 2013, at the point looked ahead to: v <- m v + g, p <- p - lr (g + m v)."""
    s["v"] = k["momentum"] * s.get("v", 0.0) + g
    return p - k["lr"] * (g + k["momentum"] * s["v"])


def adam(p: np.ndarray, g: np.ndarray, t: int, s: State, k: Settings) -> np.ndarray:
    """Kingma and Ba (arXiv:1412.6980), algorithm 1."""
    beta1, beta2 = k["momentum"], k["beta2"]
    s["m"] = beta1 * s.get("m", 0.0) + (1 - beta1) * g
    s["v"] = beta2 * s.get("v", 0.0) + (1 - beta2) * g**2
    m_hat = s["m"] / (1 - beta1**t)
    v_hat = s["v"] / (1 - beta2**t)
    return p - k["lr"] * m_hat / (np.sqrt(v_hat) + k["eps"])


def adamw(p: np.ndarray, g: np.ndarray, t: int, s: State, k: Settings) -> np.ndarray:
    """Loshchilov and Hutter (arXiv:1711.05101), algorithm 2: p <- p - lr (Adam's step + wd p)."""
    return adam(p, g, t, s, k) - k["lr"] * k["wd"] * p


def nadam(p: np.ndarray, g: np.ndarray, t: int, s: State, k: Settings) -> np.ndarray:
    """Dozat 2016, with its warm-up of momentum: mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2)."""
    beta1, beta2 = k["momentum"], k["beta2"]

    def mu(step: int) -> float:
        return beta1 * (1 - 0.5 * 0.96 ** (step * k["momentum_decay"]))

    product = np.prod([mu(step) for step in range(1, t + 1)])
    s["m"] = beta1 * s.get("m", 0.0) + (1 - beta1) * g
    s["v"] = beta2 * s.get("v", 0.0) + (1 - beta2) * g**2
    m_hat = mu(t + 1) * s["m"] / (1 - product * mu(t + 1)) + (1 - mu(t)) * g / (1 - product)
    v_hat = s["v"] / (1 - beta2**t)
    return p - k["lr"] * m_hat / (np.sqrt(v_hat) + k["eps"])


def rmsprop(p: np.ndarray, g: np.ndarray, t: int, s: State, k: Settings) -> np.ndarray:
    """Hinton's lecture 6e; centered: the variance for the mean square (arXiv:1308.0850)."""
    s["r"] = k["alpha"] * s.get("r", 0.0) + (1 - k["alpha"]) * g**2
    s["a"] = k["alpha"] * s.get("a", 0.0) + (1 - k["alpha"]) * g
    variance = s["r"] - s["a"] ** 2 if k["centered"] else s["r"]
    s["v"] = k["momentum"] * s.get("v", 0.0) + g / (np.sqrt(variance) + k["eps"])
    return p - k["lr"] * s["v"]


def lion(p: np.ndarray, g: np.ndarray, t: int, s: State, k: Settings) -> np.ndarray:
    """Chen et al. 2023 (arXiv:2302.06675), algorithm 2: p <- p - lr (sign(b1 m + (1 - b1) g) + wd p)."""
    beta1, beta2, m = k["momentum"], k["beta2"], s.get("m", 0.0)
    s["m"] = beta2 * m + (1 - beta2) * g
    return p - k["lr"] * (np.sign(beta1 * m + (1 - beta1) * g) + k["wd"] * p)


def schedule_free(p: np.ndarray, g: np.ndarray, t: int, s: State, k: Settings) -> np.ndarray:
    """Defazio et al. 2024 (arXiv:2405.15682), algorithm 1: p is y, between average x and iterate z."""
    beta1, beta2 = k["momentum"], k["beta2"]
    warmed = min(1.0, t / k["warmup_steps"]) if k["warmup_steps"] else 1.0
    s["v"] = beta2 * s.get("v", 0.0) + (1 - beta2) * g**2
    z, x = s.get("z", p), s.get("x", p)
    step = g / (np.sqrt(s["v"] / (1 - beta2**t)) + k["eps"])
    z = z - k["lr"] * warmed * (step + k["wd"] * p)
    weight = t ** k["r"] * (k["lr"] * warmed) ** k["weight_lr_power"]
    s["weights"] = s.get("weights", 0.0) + weight
    x = x + weight / s["weights"] * (z - x)
    s["z"], s["x"] = z, x
    return (1 - beta1) * z + beta1 * x


def adagrad(p: np.ndarray, g: np.ndarray, t: int, s: State, k: Settings) -> np.ndarray:
    """Duchi, Hazan and Singer 2011, diagonal form: p <- p - lr g / sqrt(sum of g^2)."""
    s["r"] = s.get("r", k["initial_accumulator_value"]) + g**2
    lr = k["lr"] / (1 + (t - 1) * k["lr_decay"])
    return p - lr * g / (np.sqrt(s["r"]) + k["eps"])
