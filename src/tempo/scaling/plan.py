"""The points of a benchmark, in the order in which they are measured, each with the file of its record."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose
from omegaconf import OmegaConf

from tempo.errors import UserError
from tempo.scaling.benchmark_job import BenchmarkJob
from tempo.scaling.cost_model import Method
from tempo.scaling.point import SUFFIX, ScalingPoint, of_this_machine
from tempo.scaling.settings import ScalingSettings, server_of

# What changes no number.
_UNHASHED = ("point_file", "command", "single_images_per_second", "note")

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Network:
    """What is trained: its name in tables, and its node of conf/model."""

    name: str
    node: dict[str, Any]


@dataclass(frozen=True)
class Planned:
    """A point that is wanted."""

    job: BenchmarkJob
    workers: int

    @property
    def path(self) -> Path:
        """Of its record."""
        return Path(self.job.point_file)

    @property
    def name(self) -> str:
        """As it is said on the screen."""
        return f"{self.job.model}, {self.job.method}, {self.workers} worker{'s' * (self.workers > 1)}"

    @property
    def is_single(self) -> bool:
        """Whether it is the worker alone, against which the others are measured."""
        return self.workers == 1 and self.job.method == "ring"

    def done(self) -> ScalingPoint | None:
        """The point where it was measured before, by the same settings on the same hardware."""
        if not self.path.is_file():
            return None
        try:
            return ScalingPoint.from_json(self.path.read_text(encoding="utf-8"), str(self.path))
        except (UserError, OSError, UnicodeDecodeError):
            return None  # measured again


def networks_of(config: Config, settings: ScalingSettings, option: str) -> list[Network]:
    """`scaling.networks`, or the one of `model`, which is an option of conf/model.

    Needs Hydra to be initialised.
    """
    if settings.networks is None:
        return [Network(str(config["model"].get("name") or option), config["model"])]
    found = []
    for each in dict.fromkeys(settings.networks):
        group, _, name = each.partition("/")
        overrides = [f"model={group}", *([f"model.name={name}"] if name else [])]
        node = OmegaConf.to_container(compose("train", overrides=overrides)["model"], resolve=True)
        assert isinstance(node, dict)
        values = {str(key): value for key, value in node.items()}
        found.append(Network(str(values.get("name") or group), values))
    return found


def plan_of(
    config: Config,
    settings: ScalingSettings,
    networks: Sequence[Network],
    *,
    folder: Path,
    accelerator: str,
    command: str,
) -> list[Planned]:
    """One worker alone for each network, then every method and number of workers.

    One worker alone is measured once: ring and ps_sync exchange nothing there. An asynchronous server has
    something to do for one worker, so that is a point of its own.
    """
    planned = []
    for network in networks:
        wanted: dict[tuple[Method, int], None] = {("ring", 1): None}
        for method in settings.methods:
            for workers in sorted(set(settings.workers)):
                exchanges = workers > 1 or method == "ps_async"
                wanted[method if exchanges else "ring", workers] = None
        for by, workers in wanted:
            job = _job(config, settings, network, by, accelerator, command)
            planned.append(Planned(_filed(job, workers, folder), workers))
    return planned


def _job(
    config: Config,
    settings: ScalingSettings,
    network: Network,
    method: Method,
    accelerator: Any,
    command: str,
) -> BenchmarkJob:
    trainer, server = config["trainer"], server_of(config, method)
    same = ("images_per_worker", "image_size", "classes", "steps", "warmup_steps", "interval_steps")
    values = {key: getattr(settings, key) for key in (*same, "compute_steps", "bucket_mb")}
    of_trainer = ("precision", "matmul_precision", "channels_last", "compress")
    return BenchmarkJob(
        point_file="",
        method=method,
        model=network.name,
        network=network.node,
        optimizer=config["optimizer"],
        servers=server["count"],
        placement=server["placement"],
        reply=server["reply"],
        max_staleness=server["max_staleness"],
        accelerator=accelerator,
        backend=trainer["backend"] or ("gloo" if accelerator == "cpu" else "nccl"),
        threads=trainer["threads"] or 1,
        seed=config["seed"],
        command=command,
        **values,
        **{key: trainer[key] for key in of_trainer},
    )


def _filed(job: BenchmarkJob, workers: int, folder: Path) -> BenchmarkJob:
    told = {key: value for key, value in dataclasses.asdict(job).items() if key not in _UNHASHED}
    if workers == 1 and job.method == "ring":  # the way of an exchange that does not take place
        told = {key: value for key, value in told.items() if key not in ("servers", "placement", "reply")}
    if job.max_staleness is not None:  # points that counted dropped gradients as images are measured again
        told["images"] = "stepped"
    text = json.dumps([told, workers, of_this_machine()], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    name = re.sub(r"[^\w.-]", "_", f"{job.model}_{job.method}_{workers}")
    return dataclasses.replace(job, point_file=str(folder / "points" / f"{name}_{digest}{SUFFIX}"))
