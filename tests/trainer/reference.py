"""A plain training loop: no Lightning, no chunks, one order of images."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tempo.data.augment import Augment, Preprocess, channel_statistics
from tempo.data.batches import BatchPlan
from tempo.data.digits import digits
from tempo.data.split import split

# The options of conf/optimizer, written directly in torch.
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, weight_decay=1e-4, fused=True),
    "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=1e-4, fused=True),
    "nesterov": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=1e-4, nesterov=True, fused=True),
    "adam": lambda p: torch.optim.Adam(p, 1e-3, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=1e-2, fused=True),
    "nadam": lambda p: torch.optim.NAdam(p, 1e-3),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 1e-3),
    "adagrad": lambda p: torch.optim.Adagrad(p, 1e-2, fused=True),
}


def constant(lr: float) -> Callable[[int, int], dict[str, float]]:
    """Return a schedule with one learning rate."""
    return lambda step, total: {"lr": lr}


def onecycle(lr: float) -> Callable[[int, int], dict[str, float]]:
    """Return conf/scheduler/onecycle.yaml: lr to 10 lr in 45 % of the run, back in 45 %, then to lr / 100."""

    def at(step: int, total: int) -> dict[str, float]:
        p = step / (total - 1)
        if p > 0.9:
            share = (p - 0.9) / 0.1
            return {"lr": lr * (1 - share) + 0.01 * lr * share, "momentum": 0.95}
        height = p / 0.45 if p <= 0.45 else (0.9 - p) / 0.45
        return {"lr": lr + height * 9 * lr, "momentum": 0.95 - height * 0.1}

    return at


def cosine(lr: float) -> Callable[[int, int], dict[str, float]]:
    """Return half a cosine to 0."""
    return lambda step, total: {"lr": lr * (1 + math.cos(math.pi * step / (total - 1))) / 2}


@dataclass
class Outcome:
    """Result of the loop."""

    network: nn.Module
    averaged: nn.Module | None
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    validations: list[tuple[int, float, float]] = field(default_factory=list)
    """(steps done, loss, accuracy) at each epoch's end and at the run's."""


@dataclass
class Loop:
    """One run on the digits, with the settings of tests.jobs.SMALL and conf/data/digits.yaml."""

    make_network: Callable[[], nn.Module]
    make_optimizer: Callable[[Any], torch.optim.Optimizer]
    schedule: Callable[[int, int], dict[str, float]]
    steps: int
    seed: int = 0
    total_batch_size: int = 64
    accumulate: int = 1
    gradient_clip: float | None = None
    ema_decay: float | None = None
    ema_warmup: bool = True
    augment: Augment = field(default_factory=lambda: Augment(crop_padding=0, flip=False, cutout=0))

    def run(self) -> Outcome:
        """Take all steps, validating after each epoch and after the last step."""
        official, _ = digits()
        train, val = split(official, val_size=0.1, train_size=320, split_seed=0)
        assert val is not None
        mean, std = channel_statistics(train.images)
        preprocess = Preprocess(self.augment, mean, std, False)
        plan = BatchPlan(n=len(train), total_batch_size=self.total_batch_size, seed=self.seed)
        torch.manual_seed(self.seed)
        network = self.make_network()
        optimizer = self.make_optimizer(network.parameters())
        outcome = Outcome(network, None)
        part = self.total_batch_size // self.accumulate
        for step in range(self.steps):
            epoch, position = divmod(step, plan.steps_per_epoch)
            places = slice(position * self.total_batch_size, (position + 1) * self.total_batch_size)
            draws = torch.tensor(plan.epoch_draws(epoch, self.augment, 8, 8)[places])
            index = torch.tensor(plan.positions(step))
            x, y = preprocess(train.images[index], draws), train.labels[index]
            for group in optimizer.param_groups:
                _set(group, self.schedule(step, self.steps))
            optimizer.zero_grad()
            losses, hits = [], 0
            for start in range(0, self.total_batch_size, part):
                logits = network(x[start : start + part])
                loss = F.cross_entropy(logits, y[start : start + part])
                (loss / self.accumulate if self.accumulate > 1 else loss).backward()
                losses.append(float(loss.detach()))
                hits += int((logits.argmax(1) == y[start : start + part]).sum())
            if self.gradient_clip is not None:
                nn.utils.clip_grad_norm_(network.parameters(), self.gradient_clip)
            optimizer.step()
            self._average(outcome)
            outcome.losses.append(sum(losses) / len(losses))
            outcome.accuracies.append(hits / self.total_batch_size)
            done = step + 1
            if done % plan.steps_per_epoch == 0 or done == self.steps:
                images = Preprocess(None, mean, std, False)(val.images)
                outcome.validations.append((done, *evaluate(outcome, images, val.labels)))
        return outcome

    def _average(self, outcome: Outcome) -> None:
        """Update mean <- d mean + (1 - d) weight, starting with the weights after the first step.

        With warm-up, d = min(decay, (1 + n) / (10 + n)) after n steps.
        """
        if self.ema_decay is None:
            return
        if outcome.averaged is None:
            outcome.averaged = deepcopy(outcome.network)
            return
        n = len(outcome.losses)
        decay = min(self.ema_decay, (1 + n) / (10 + n)) if self.ema_warmup else self.ema_decay
        for mean, value in zip(outcome.averaged.parameters(), outcome.network.parameters(), strict=True):
            mean.data.lerp_(value.data, 1 - decay)


def evaluate(outcome: Outcome, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return mean loss and accuracy over all images, in one pass."""
    network = outcome.averaged or outcome.network
    network.eval()
    with torch.no_grad():
        logits = network(images)
    network.train()
    return float(F.cross_entropy(logits, labels)), float((logits.argmax(1) == labels).double().mean())


def _set(group: dict[str, Any], values: dict[str, float]) -> None:
    group["lr"] = values["lr"]
    if "momentum" in values and "momentum" in group:
        group["momentum"] = values["momentum"]
    elif "momentum" in values:
        group["betas"] = (values["momentum"], group["betas"][1])
