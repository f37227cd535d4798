"""Plan the points of a benchmark, in the order measured; each is an ordinary run. Does not import torch."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose
from omegaconf import OmegaConf

from tempo.config.check import check
from tempo.config.schema import RunConfig
from tempo.errors import UserError
from tempo.record.read_file import read_text
from tempo.scaling.cost_model import Method
from tempo.scaling.measured_point import SUFFIX, ScalingPoint, of_this_machine
from tempo.scaling.scale_settings import ScalingSettings

CHANNELS = 3
_MOST_DATA_BYTES = 1 << 30
"""Limit on an epoch's images, which every process holds in memory; later epochs repeat them."""


@dataclass(frozen=True)
class Network:
    """A network to train: its name in tables, and its node of conf/model."""

    name: str
    node: dict[str, Any]


@dataclass(frozen=True)
class PlannedPoint:
    """A point to be measured: the configuration of its run, and the benchmark's folder."""

    config: RunConfig
    warmup_steps: int
    """Optimizer steps of the run that are left out of its speed."""
    folder: Path

    @property
    def model(self) -> str:
        """Name of the network."""
        return self.config.name

    @property
    def method(self) -> Method:
        """How gradients are exchanged."""
        return self.config.trainer.method

    @property
    def workers(self) -> int:
        """Number of workers."""
        return self.config.trainer.devices

    @property
    def name(self) -> str:
        """Name of the point on the screen."""
        return f"{self.model}, {self.method}, {self.workers} worker{'s' * (self.workers > 1)}"

    @property
    def stem(self) -> str:
        """Stem of the point's file names; it depends on all that can change its numbers, even hardware."""
        text = json.dumps([self.config.values, self.warmup_steps, of_this_machine()], sort_keys=True)
        name = re.sub(r"[^\w.-]", "_", f"{self.model}_{self.method}_{self.workers}")
        return f"{name}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @property
    def path(self) -> Path:
        """Path of the point's record."""
        return self.folder / "points" / f"{self.stem}{SUFFIX}"

    @property
    def run_folder(self) -> Path:
        """Folder of the point's run."""
        return self.folder / "runs" / self.stem

    def done(self) -> ScalingPoint | None:
        """Return the point if the same settings were measured before on the same hardware."""
        if not self.path.is_file():
            return None
        try:
            return ScalingPoint.from_json(read_text(self.path), str(self.path))
        except (UserError, OSError, UnicodeDecodeError):
            return None  # measured again


def networks_of(values: Mapping[str, Any], settings: ScalingSettings, option: str) -> list[Network]:
    """Return the networks of `scaling.networks`, or the one of `model`, which is `option` of conf/model.

    Hydra must be initialised.
    """
    if settings.networks is None:
        return [Network(str(values["model"].get("name") or option), values["model"])]
    found = []
    for option in dict.fromkeys(settings.networks):
        group, _, name = option.partition("/")
        overrides = [f"model={group}", *([f"model.name={name}"] if name else [])]
        node = OmegaConf.to_container(compose("train", overrides=overrides)["model"], resolve=True)
        assert isinstance(node, dict)
        found.append(
            Network(str(node.get("name") or group), {str(key): value for key, value in node.items()})
        )
    return found


def plan_of(
    values: Mapping[str, Any], settings: ScalingSettings, networks: Sequence[Network], folder: Path
) -> list[PlannedPoint]:
    """Plan one worker alone for each network, then every method and number of workers.

    One worker exchanges nothing, whatever the method, so it is measured once.

    Raises:
        UserError: training would refuse the run of a point.
    """
    planned = []
    for network in networks:
        wanted: dict[tuple[Method, int], None] = {("ring", 1): None}
        for method in settings.methods:
            wanted |= {(method, workers): None for workers in sorted(set(settings.workers)) if workers > 1}
        for method, workers in wanted:
            config = check(run_values(values, settings, network, method, workers))
            warmup = settings.warmup_steps * steps_per_round(method, workers)
            planned.append(PlannedPoint(config, warmup, folder))
    return planned


def steps_per_round(method: Method, workers: int) -> int:
    """Return the optimizer steps in which every worker steps once; an asynchronous step is one worker's."""
    return workers if method == "ps_async" else 1


def run_values(
    values: Mapping[str, Any], settings: ScalingSettings, network: Network, method: Method, workers: int
) -> dict[str, Any]:
    """Return the configuration of the run that measures a point: random images, no validation.

    A row of metrics.csv and a call of the training loop are both one interval of the benchmark. An epoch has
    at least two intervals, because its first is not measured: it includes writing the last checkpoint.
    """
    per_round = steps_per_round(method, workers)
    interval_steps = settings.interval_steps * per_round
    batch = settings.images_per_worker * workers // per_round
    interval_bytes = interval_steps * batch * CHANNELS * settings.image_size**2
    epoch_intervals = min(max(2, _MOST_DATA_BYTES // interval_bytes), settings.intervals)
    trainer = {
        "devices": workers,
        "method": method,
        "max_steps": settings.intervals * interval_steps,
        "log_every_n_steps": interval_steps,
        "steps_per_call": interval_steps,
        "threads": values["trainer"]["threads"] or 1,
    }
    if workers == 1:
        trainer["compress"] = None  # one worker sends no gradients
    data = {
        "_target_": "tempo.data.synthetic.synthetic",
        "image_size": settings.image_size,
        "channels": CHANNELS,
        "classes": settings.classes,
        "train_images": epoch_intervals * interval_steps * batch,
        "test_images": workers,  # every process tests one
        "seed": 0,
        "learnable": False,
        "total_batch_size": batch,
        "eval_batch_size": settings.images_per_worker,
        "val_size": 0,
        "train_size": None,
        "split_seed": 0,
        "normalize": "unit",
        "augment": {"crop_padding": 0, "flip": False, "cutout": 0},
    }
    return {
        **values,
        "name": network.name,
        "model": network.node,
        "data": data,
        "trainer": {**values["trainer"], **trainer},
        "server": server_of(values["server"], method),
        # There are no validation images, by which it would be chosen otherwise.
        "objective": "test/accuracy",
        "checkpoint": {**values["checkpoint"], "select": "last"},
        "divergence": {"factor": None},  # labels are random, so the loss may rise; only speed matters
    }


def server_of(server: Mapping[str, Any], method: Method) -> dict[str, Any]:
    """Return the keys of `server`; reset keys of other methods to defaults, which this method accepts."""
    own = dict(server)
    if method != "ps_async":
        own["max_staleness"] = None
    if method != "ps_sync":
        own |= {"count": 1, "placement": "by_size", "reply": "parameters"}
    return own
