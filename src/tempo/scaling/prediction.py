"""From the numbers of one machine to points of up to a thousand workers, by the cost model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tempo.distributed.ps_sync import Placement, place_parameters
from tempo.scaling.cost_model import Duplex, Machine, Method, Servers, predict
from tempo.scaling.point import ScalingPoint

WORKERS = tuple(2**power for power in range(11))
"""1 to 1,024."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was measured of one worker and of one link.

    `sizes`: elements of each trained variable, in the network's order; `element_bytes`: of one of them on the
    wire. `apply_seconds`: a server's optimizer step for one gradient. `of_machine` is copied into the points,
    so that they name their origin.
    """

    model: str
    images_per_worker: int
    forward_seconds: float
    backward_seconds: float
    optimizer_seconds: float
    apply_seconds: float
    sizes: list[int]
    bytes_per_second: float
    message_seconds: float
    element_bytes: int = 4
    bucket_mb: float = 25.0
    duplex: Duplex = 2
    image_size: int = 0
    of_machine: dict[str, Any] = field(default_factory=dict)
    """`device`, `cores`, `threads`, `accelerator`, `backend`, `precision`, `link`, `versions`, `command`."""

    @property
    def step_seconds(self) -> float:
        """T of a worker that exchanges nothing."""
        return self.forward_seconds + self.backward_seconds + self.optimizer_seconds

    @property
    def gradient_bytes(self) -> int:
        """S."""
        return sum(self.sizes) * self.element_bytes

    @property
    def buckets(self) -> int:
        """k: as DistributedDataParallel fills them, from the last variable to the first."""
        count, filled = 0, 0.0
        for size in reversed(self.sizes):
            filled += size * self.element_bytes
            if filled >= self.bucket_mb * 2**20:
                count, filled = count + 1, 0.0
        return count + (filled > 0)

    def machine(self, method: Method, *, overlap: bool) -> Machine:
        """The cost model's numbers; under a parameter server the servers step, the workers do not."""
        steps_itself = method == "ring"
        return Machine(
            forward_seconds=self.forward_seconds,
            backward_seconds=self.backward_seconds,
            optimizer_seconds=self.optimizer_seconds if steps_itself else 0.0,
            gradient_bytes=self.gradient_bytes,
            bytes_per_second=self.bytes_per_second,
            message_seconds=self.message_seconds,
            buckets=self.buckets if overlap else 1,
            apply_seconds=0.0 if steps_itself else self.apply_seconds,
            largest_variable_bytes=max(self.sizes) * self.element_bytes,
        )


def fullest_share(sizes: Sequence[int], servers: int, placement: Placement) -> float:
    """The part of all elements that lies on the fullest server."""
    if placement == "sharded":
        return 1 / servers
    load = [0] * servers
    for size, owner in zip(sizes, place_parameters(sizes, servers, placement), strict=True):
        load[owner] += size
    return max(load) / sum(load)


def predicted_point(
    calibration: Calibration,
    method: Method,
    workers: int,
    *,
    servers: int = 1,
    placement: Placement = "by_size",
    overlap: bool = False,
    dedicated_servers: bool = False,
) -> ScalingPoint:
    """One point of the cost model; `placement` matters where there are several servers."""
    ring = method == "ring"
    machine = calibration.machine(method, overlap=overlap)
    layout = Servers(
        count=servers,
        fullest_share=fullest_share(calibration.sizes, servers, placement),
        dedicated=dedicated_servers,
        duplex=calibration.duplex,
    )
    if workers == 1:  # it is its own server
        step_seconds = calibration.step_seconds
    else:
        step_seconds = predict(
            machine,
            method=method,
            workers=workers,
            images_per_worker=calibration.images_per_worker,
            servers=layout,
            overlap=overlap,
        ).step_seconds
    return ScalingPoint(
        source="predicted",
        method=method,
        model=calibration.model,
        workers=workers,
        images_per_worker=calibration.images_per_worker,
        image_size=calibration.image_size,
        step_seconds=step_seconds,
        images_per_second=workers * calibration.images_per_worker / step_seconds,
        servers=0 if ring else servers,
        placement="" if ring else placement,
        reply="" if ring else "parameters",
        dedicated_servers=dedicated_servers and not ring,
        overlap=overlap,
        single_images_per_second=calibration.images_per_worker / calibration.step_seconds,
        compute_seconds=calibration.step_seconds,
        gradient_bytes=calibration.gradient_bytes,
        compute="formula",
        bytes_per_second=calibration.bytes_per_second,
        message_seconds=calibration.message_seconds,
        **calibration.of_machine,
    )


def predict_points(
    calibration: Calibration,
    methods: Iterable[Method] = ("ring", "ps_sync", "ps_async"),
    workers: Iterable[int] = WORKERS,
    *,
    servers: int | Literal["workers"] = 1,
    placement: Placement = "by_size",
) -> list[ScalingPoint]:
    """Each method over the numbers of workers, with and without overlap where the model knows both.

    `servers` of the parameter server; "workers" is one on each worker.
    """
    counts = list(workers)
    return [
        predicted_point(
            calibration,
            method,
            count,
            servers=count if servers == "workers" else min(servers, count),
            placement=placement,
            overlap=overlap,
        )
        for method in methods
        for count in counts
        for overlap in ((False,) if method == "ps_async" or count == 1 else (False, True))
    ]
