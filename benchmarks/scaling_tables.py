"""Compare the cost model with emulated hosts and published figures: `python benchmarks/scaling_tables.py`.

Reads the points of docs/results/scaling_emulated; writes `record.json` there and in
docs/results/scaling_published, which docs/scaling.md quotes. Nothing is measured here. A prediction for
published figures takes its speeds from the publications alone; `PUBLISHED` has its assumptions.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from emulated import NETWORKS, SCALE, VARIANTS, Variant, calibration  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from tempo.record.atomic_write import write_atomically  # noqa: E402
from tempo.scaling.cost_model import Machine, Method, Servers, step_seconds  # noqa: E402
from tempo.scaling.measured_point import SUFFIX, ScalingPoint  # noqa: E402
from tempo.scaling.network_link import Link  # noqa: E402
from tempo.scaling.prediction import WORKERS, Calibration, predicted_point  # noqa: E402

EMULATED = ROOT / "docs" / "results" / "scaling_emulated"
PUBLISHED_FOLDER = ROOT / "docs" / "results" / "scaling_published"
_BACKWARD_PART = 2 / 3
_GBIT = 1e9 / 8
_MB = 1e6


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published efficiency and the inputs of the model.

    `images_per_second` of one worker at `batch`; `inside` is the published efficiency within one host, for
    workers that are hosts of several GPUs. `bytes_per_second` is the rated speed of the link, nothing taken
    off. `largest_bytes` is the largest variable's.
    """

    efficiency: float
    method: Method
    workers: int
    batch: int
    images_per_second: float
    gradient_bytes: float
    bytes_per_second: float
    buckets: int = 1
    inside: float = 1.0
    servers: int = 1
    dedicated: bool = False
    largest_bytes: float = 0.0


PUBLISHED = {
    # Sergeev & Del Balso 2018, arXiv:1802.05799, and Horovod's README: 128 hosts x 4 Pascal GPUs, 25 Gb/s. A
    # ring passes each host's link once each way, so a GPU has all of it. P100 at batch 64 by TensorFlow's
    # benchmarks; ResNet-101 between its 50 (219) and 152 (91.8) by multiplications. Fused in 64 MB.
    "horovod_inception_v3": Published(
        efficiency=0.90, method="ring", workers=512, batch=64, images_per_second=142,
        gradient_bytes=4 * 23.8e6, bytes_per_second=25 * _GBIT, buckets=2,
    ),
    "horovod_resnet101": Published(
        efficiency=0.90, method="ring", workers=512, batch=64, images_per_second=129,
        gradient_bytes=4 * 44.5e6, bytes_per_second=25 * _GBIT, buckets=3,
    ),
    "horovod_vgg16": Published(
        efficiency=0.68, method="ring", workers=512, batch=64, images_per_second=154,
        gradient_bytes=4 * 138.4e6, bytes_per_second=25 * _GBIT, buckets=9,
    ),
    # TensorFlow's benchmarks: Amazon p2.8xlarge, 8 hosts x 8 K80, 10 Gb/s; gradients are added within a host
    # first, so a worker is a host; a server on each, variables spread evenly.
    "tensorflow_64_resnet50": Published(
        efficiency=0.75, method="ps_sync", workers=8, batch=32, images_per_second=49.0, inside=0.91,
        gradient_bytes=4 * 25.6e6, bytes_per_second=10 * _GBIT, servers=8,
    ),
    "tensorflow_64_inception_v3": Published(
        efficiency=0.86, method="ps_sync", workers=8, batch=32, images_per_second=29.5, inside=0.91,
        gradient_bytes=4 * 23.8e6, bytes_per_second=10 * _GBIT, servers=8,
    ),
    "tensorflow_64_resnet152": Published(
        efficiency=0.79, method="ps_sync", workers=8, batch=32, images_per_second=19.7, inside=0.91,
        gradient_bytes=4 * 60.2e6, bytes_per_second=10 * _GBIT, servers=8,
    ),
    # The same benchmarks, one host: 8 K80, variables in the host's memory. Assumed: 10 GB/s, half-duplex.
    "tensorflow_8_resnet50": Published(
        efficiency=0.91, method="ps_sync", workers=8, batch=32, images_per_second=49.0, dedicated=True,
        gradient_bytes=4 * 25.6e6, bytes_per_second=1e10, largest_bytes=9.4 * _MB,
    ),
    "tensorflow_8_vgg16": Published(
        efficiency=0.83, method="ps_sync", workers=8, batch=32, images_per_second=36.0, dedicated=True,
        gradient_bytes=4 * 138.4e6, bytes_per_second=1e10, largest_bytes=411 * _MB,
    ),
}  # fmt: skip


def beside_published(published: Published) -> dict[str, Any]:
    """Return the efficiency by the model, without and with overlap, and each over the published one."""
    alone = published.batch / published.images_per_second
    inside = alone / published.inside
    machine = Machine(
        forward_seconds=(1 - _BACKWARD_PART) * inside,
        backward_seconds=_BACKWARD_PART * inside,
        optimizer_seconds=0.0,
        gradient_bytes=published.gradient_bytes,
        bytes_per_second=published.bytes_per_second,
        buckets=published.buckets,
        largest_variable_bytes=published.largest_bytes,
    )
    servers = Servers(count=published.servers, dedicated=published.dedicated, duplex=1)
    found: dict[str, Any] = {"published": percent(published.efficiency)}
    for name, overlap in (("plain", False), ("overlapped", True)):
        efficiency = alone / step_seconds(
            published.method, machine, published.workers, servers, overlap=overlap
        )
        found[name] = percent(efficiency)
        found[f"{name}_ratio"] = f"{efficiency / published.efficiency:.2f}"
    return found | {"assumed": asdict(published)}


def predicted_for(point: ScalingPoint, variant: Variant, link: Link) -> ScalingPoint:
    """Predict an emulated point from the link that was measured with it."""
    assert point.bytes_per_second is not None and point.message_seconds is not None
    here = Link(
        bytes_per_second=point.bytes_per_second,
        message_seconds=point.message_seconds,
        both_ways_bytes_per_second=link.both_ways_bytes_per_second,
        backend=link.backend,
    )
    numbers: Calibration = calibration(point.model.partition("/")[0], here)
    return predicted_point(
        numbers,
        point.method,
        point.workers,
        servers=max(1, point.servers),
        placement=variant.placement,
        overlap=variant.overlap,
        dedicated_servers=point.dedicated_servers,
    )


def beside_emulated() -> dict[str, Any]:
    """Return every emulated point and the model's, by the names of `points_by_name`."""
    link, found = Link.read(EMULATED / "link.json"), {}
    for stem, point in points_by_name().items():
        name = stem.partition("_")[2].rpartition("_")[0]
        model = predicted_for(point, VARIANTS[name], link)
        assert point.efficiency is not None
        found[stem] = {
            "seconds": f"{point.step_seconds:.3f}",
            "efficiency": percent(point.efficiency),
            "predicted": f"{model.step_seconds:.3f}",
            "ratio": f"{model.step_seconds / point.step_seconds:.2f}",
            "staleness": "" if point.staleness is None else f"{point.staleness:.1f}",
        }
    return found


def draw(path: Path) -> None:
    """Draw efficiency against the number of workers: lines are the model's, marks are emulated."""
    link, points = Link.read(EMULATED / "link.json"), points_by_name()
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    panels = figure.subplots(1, len(NETWORKS), sharey=True)
    for axis, network in zip(panels, NETWORKS, strict=True):
        numbers = calibration(network, link)
        for number, (name, variant) in enumerate(VARIANTS.items()):
            line = [
                predicted_point(
                    numbers,
                    variant.method,
                    workers,
                    servers=workers if variant.servers is None else variant.servers,
                    placement=variant.placement,
                    overlap=variant.overlap,
                    dedicated_servers=variant.method == "ps_async",
                ).efficiency
                for workers in WORKERS
            ]
            axis.plot(WORKERS, line, color=f"C{number}", linewidth=1, label=name.replace("_", " "))
            here = [points[key] for key in points if key.rpartition("_")[0] == f"{network}_{name}"]
            marks = ([point.workers for point in here], [point.efficiency for point in here])
            axis.plot(*marks, "o", color=f"C{number}", fillstyle="none")
        axis.set_xscale("log", base=2)
        axis.set_ylim(0, 1.05)
        axis.set_xlabel("workers")
        axis.set_title(f"{network}/{SCALE}: lines predicted, marks emulated", fontsize="medium")
        axis.grid(alpha=0.3)
    panels[0].set_ylabel("efficiency")
    panels[0].legend(fontsize="x-small")
    figure.savefig(path, dpi=90)


def span(values: list[float]) -> str:
    """Return `smallest to largest`."""
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"


def percent(part: float) -> str:
    """Return a share as rounded per cent."""
    return f"{100 * part:.0f} %"


def main() -> None:
    """Write both records."""
    command = {"command": "python benchmarks/scaling_tables.py"}
    link, points = Link.read(EMULATED / "link.json"), list(points_by_name().values())
    device = points[0].device
    texts = {
        "gbit_per_second": span([8 * (point.bytes_per_second or 0) / 1e9 for point in points]),
        "both_ways_gbit_per_second": f"{link.both_ways_bytes_per_second * 8 / 1e9:.2f}",
        "message_ms": span([1e3 * (point.message_seconds or 0) for point in points]),
    }
    emulated = command | {"device": device, "link": texts, "points": beside_emulated()}
    published = command | {"rows": {name: beside_published(row) for name, row in PUBLISHED.items()}}
    for folder, record in ((EMULATED, emulated), (PUBLISHED_FOLDER, published)):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "record.json", json.dumps(record, indent=1) + "\n")
    draw(EMULATED / "efficiency.png")


def points_by_name() -> dict[str, ScalingPoint]:
    """Read the emulated points; keys are `<network>_<variant>_<workers>`."""
    return {
        path.name.removesuffix(SUFFIX): ScalingPoint.from_json(path.read_text(encoding="utf-8"), str(path))
        for path in sorted(EMULATED.glob(f"*{SUFFIX}"))
    }


if __name__ == "__main__":
    main()
