"""Points of a scaling benchmark: measured, emulated or predicted; does not import torch."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tempo.config.value_types import fits
from tempo.errors import UserError
from tempo.record.atomic_write import write_atomically
from tempo.record.environment import cpu_name, versions
from tempo.record.read_file import read_text
from tempo.scaling.cost_model import Method

SCHEMA_VERSION = 1
SUFFIX = ".point.json"
"""Ending of a point's file name."""
Source = Literal["measured", "emulated", "predicted"]
SOURCES: tuple[Source, ...] = ("measured", "emulated", "predicted")
METHODS: tuple[Method, ...] = ("ring", "ps_sync", "ps_async")


@dataclass(frozen=True, kw_only=True)
class ScalingPoint:
    """N workers that train one network by one method, on one machine or link.

    `source` is `measured` for a network trained on the hardware named here; `emulated` if a part was replaced
    (computation by its time, a network by a limited link), as `note` explains; or `predicted` by the cost
    model.

    `step_seconds` is the time between two steps of one worker, the median over intervals;
    `step_seconds_quartiles` is their spread. `images_per_second` is for all workers together, without images
    whose gradient was dropped. `single_images_per_second` is for one worker that exchanges nothing, on the
    same hardware; efficiency is relative to it. `compute_seconds` is a step without exchange; for measured
    points it is that worker's step.

    `gradient_bytes` is S. `sent_bytes_by_rank` and `received_bytes_by_rank` are per step; for measured points
    they are rank 0's, which serves under ps_sync; they are empty if unknown. `bytes_are` is `counted` when
    sent, or `computed` from the method's formula, as a backend chooses its own algorithm (ring). `staleness`
    is the mean number of steps that an applied gradient is late. `sent_gradients` and `dropped_gradients` are
    for ps_async: all gradients sent, and those too late for `server.max_staleness`.
    """

    source: Source
    method: Method
    model: str
    workers: int
    images_per_worker: int
    step_seconds: float
    images_per_second: float
    image_size: int = 0
    servers: int = 0
    placement: str = ""
    reply: str = ""
    dedicated_servers: bool = False
    overlap: bool | None = None
    step_seconds_quartiles: list[float] = field(default_factory=list)
    single_images_per_second: float | None = None
    compute_seconds: float | None = None
    gradient_bytes: int = 0
    sent_bytes_by_rank: list[float] = field(default_factory=list)
    received_bytes_by_rank: list[float] = field(default_factory=list)
    bytes_are: Literal["counted", "computed", ""] = ""
    staleness: float | None = None
    sent_gradients: int = 0
    dropped_gradients: int = 0
    steps: int = 0
    warmup_steps: int = 0
    compute: Literal["network", "sleep", "formula"] = "network"
    link: str = ""
    bytes_per_second: float | None = None
    message_seconds: float | None = None
    accelerator: str = "cpu"
    device: str = ""
    cores: int = 0
    threads: int = 0
    backend: str = ""
    precision: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    command: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if self.source not in SOURCES or self.method not in METHODS:
            raise ValueError(
                f"source='{self.source}', method='{self.method}': known are {SOURCES} and {METHODS}"
            )
        if self.workers < 1 or self.images_per_worker < 1:
            raise ValueError(f"workers={self.workers}, images_per_worker={self.images_per_worker}: 1 or more")
        if not (0 < self.step_seconds < math.inf and 0 < self.images_per_second < math.inf):
            raise ValueError(
                f"step_seconds={self.step_seconds}, images_per_second={self.images_per_second}: above 0"
            )

    @property
    def efficiency(self) -> float | None:
        """Images per second divided by N times those of one worker; None if one worker was not measured."""
        single = self.single_images_per_second
        return None if not single else self.images_per_second / (self.workers * single)

    @property
    def exposed_seconds(self) -> float | None:
        """Seconds that the exchange adds to a step: the step minus the step without exchange, at least 0."""
        return None if self.compute_seconds is None else max(0.0, self.step_seconds - self.compute_seconds)

    @property
    def share_cores(self) -> bool:
        """Whether workers on one machine's CPUs have fewer cores than threads.

        Such a point shows contention for cores, not the speed of a network.
        """
        on_cpu = self.accelerator == "cpu" and self.compute == "network" and self.source == "measured"
        server = self.method == "ps_async"  # its server is an additional process
        return on_cpu and 0 < self.cores < self.workers * max(1, self.threads) + server

    @property
    def variant(self) -> str:
        """Variant of the method, if it differs from the default of training; "" for one worker."""
        parts = []
        if self.workers > 1 and self.servers > 1:
            count = "as many servers" if self.servers == self.workers else f"{self.servers} servers"
            parts.append(f"{count}, {self.placement}")
        default = self.method == "ring" if self.source != "measured" else self.overlap
        if self.workers > 1 and self.overlap is not None and self.overlap != default:
            parts.append("overlapped" if self.overlap else "not overlapped")
        return ", ".join(parts)

    @property
    def label(self) -> str:
        """Method and variant."""
        return ", ".join(filter(None, [self.method, self.variant]))

    def to_json(self) -> str:
        """Return the text of the file, including the two derived figures for other programs."""
        derived = {"efficiency": self.efficiency, "exposed_seconds": self.exposed_seconds}
        return json.dumps(
            {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self), **derived},
            indent=2,
            allow_nan=False,
        )

    @classmethod
    def from_json(cls, text: str, where: str) -> ScalingPoint:
        """Undo `to_json`.

        Raises:
            UserError: the text is not a tempo point, is of a newer version, or has a value of a wrong type.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise UserError(f"{where} is not JSON: {error}") from error
        if not isinstance(values, dict) or not isinstance(values.get("schema_version"), int):
            raise UserError(f"{where} is not a tempo scaling point")
        if values["schema_version"] > SCHEMA_VERSION:
            raise UserError(
                f"{where} has schema_version {values['schema_version']}, but this version of tempo reads up "
                f"to {SCHEMA_VERSION}; use a newer tempo"
            )
        known = {field.name: field for field in dataclasses.fields(cls)}
        found = {key: value for key, value in values.items() if key in known}
        for name, value in found.items():
            if not fits(value, str(known[name].type)):
                raise UserError(f"{where} has {name}={str(value)[:80]!r}, which is not {known[name].type}")
        try:
            return cls(**found)
        except (TypeError, ValueError) as error:
            raise UserError(f"{where} is not a tempo scaling point: {error}") from error

    def write(self, path: Path) -> None:
        """Write the file atomically; `read_points` finds names that end with `SUFFIX`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, self.to_json() + "\n")


def read_points(folders: Iterable[Path]) -> tuple[list[ScalingPoint], list[str]]:
    """Read all points in the folders; also return one line per point that cannot be read."""
    points, refused = [], []
    for folder in folders:
        for path in sorted(folder.rglob(f"*{SUFFIX}")):
            try:
                points.append(ScalingPoint.from_json(read_text(path), str(path)))
            except (UserError, OSError, UnicodeDecodeError) as error:
                refused.append(str(error))
    return points, refused


def with_single(points: Sequence[ScalingPoint]) -> list[ScalingPoint]:
    """Add to each point the speed of one worker alone, if that was measured under the same conditions."""

    def alike(point: ScalingPoint) -> tuple[Any, ...]:
        keys = ("source", "model", "images_per_worker", "image_size", "threads", "device", "precision")
        return tuple(getattr(point, key) for key in keys)

    def completed(point: ScalingPoint) -> ScalingPoint:
        alone = singles.get(alike(point))
        if alone is None or point.single_images_per_second is not None:
            return point
        # Workers that share cores compute more slowly, so the difference would not be the exchange alone.
        compute = None if point.share_cores else alone.step_seconds
        return dataclasses.replace(
            point,
            single_images_per_second=alone.images_per_second,
            compute_seconds=compute if point.compute_seconds is None else point.compute_seconds,
        )

    singles = {alike(point): point for point in points if point.workers == 1 and point.method == "ring"}
    return [completed(point) for point in points]


def of_this_machine() -> dict[str, Any]:
    """Return `device`, `cores` and `versions` of a point made on this machine's CPU."""
    return {"device": cpu_name(), "cores": cores(), "versions": versions()}


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
