"""Predict points of up to a thousand workers from one machine's numbers, with the cost model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tempo.distributed.ps_sync import Placement, place_parameters
from tempo.scaling.cost_model import Duplex, Machine, Method, Servers, step_seconds
from tempo.scaling.measured_point import ScalingPoint

WORKERS = tuple(2**power for power in range(11))
"""Numbers of workers from 1 to 1,024."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The measured numbers of one worker and one link.

    `sizes` are the numbers of elements of the trained variables, in the network's order; `element_bytes` is
    the size of one sent element. `apply_seconds` is a server's optimizer step for one gradient. `of_machine`
    is copied into the points to document their origin.
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
    """`device`, `cores`, `threads`, `accelerator`, `backend`, `precision`, `versions`, `command`."""

    @property
    def summary(self) -> str:
        """Numbers that predictions are based on, as the screen shows them."""
        parts = (self.forward_seconds, self.backward_seconds, self.optimizer_seconds)
        forward, backward, optimizer = (f"{1e3 * seconds:.4g}" for seconds in parts)
        return (
            f"forward {forward}, backward {backward}, optimizer {optimizer} ms; gradients "
            f"{self.gradient_bytes / 1e6:.4g} MB over {self.bytes_per_second / 1e9:.3g} GB/s, "
            f"{1e6 * self.message_seconds:.3g} us per message"
        )

    @property
    def step_seconds(self) -> float:
        """T: step time of a worker that exchanges nothing."""
        return self.forward_seconds + self.backward_seconds + self.optimizer_seconds

    @property
    def gradient_bytes(self) -> int:
        """S: bytes of all gradients."""
        return sum(self.sizes) * self.element_bytes

    @property
    def buckets(self) -> int:
        """k: number of buckets, which DistributedDataParallel fills from the last variable to the first."""
        count, filled = 0, 0.0
        for size in reversed(self.sizes):
            filled += size * self.element_bytes
            if filled >= self.bucket_mb * 2**20:
                count, filled = count + 1, 0.0
        return count + (filled > 0)

    def machine(self, method: Method, *, overlap: bool) -> Machine:
        """Return the numbers for the cost model; with a parameter server, only servers step."""
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
    """Return the fraction of all elements that the fullest server holds."""
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
    """Predict one point; `placement` matters if there are several servers."""
    ring = method == "ring"
    machine = calibration.machine(method, overlap=overlap)
    layout = Servers(
        count=servers,
        fullest_share=fullest_share(calibration.sizes, servers, placement),
        dedicated=dedicated_servers,
        duplex=calibration.duplex,
    )
    seconds = step_seconds(method, machine, workers, layout, overlap=overlap)
    if workers == 1:  # a worker that is its own server sends nothing
        seconds = calibration.step_seconds
    return ScalingPoint(
        source="predicted",
        method=method,
        model=calibration.model,
        workers=workers,
        images_per_worker=calibration.images_per_worker,
        image_size=calibration.image_size,
        step_seconds=seconds,
        images_per_second=workers * calibration.images_per_worker / seconds,
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
    servers: int = 1,
    placement: Placement = "by_size",
) -> list[ScalingPoint]:
    """Predict every method and number of workers, with and without overlap if the model has both.

    `servers` is the number of parameter servers.
    """
    counts = list(workers)
    return [
        predicted_point(
            calibration,
            method,
            count,
            servers=min(servers, count),
            placement=placement,
            overlap=overlap,
        )
        for method in methods
        for count in counts
        for overlap in ((False,) if method == "ps_async" or count == 1 else (False, True))
    ]
