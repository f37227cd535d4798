"""The methods over emulated hosts: `python benchmarks/emulated.py [--methods ring ps_sync] [--hosts 2 4]`.

Each worker is a process in a network namespace of its own behind a link of 1 Gb/s (benchmarks/hosts.py).
Its messages are real: the product's hooks, gloo, TCP. Its computing is a sleep (emulated_worker.py), so that
eight workers need no more than two cores: a step takes its time on the paper's machine at batch 32 (one K80:
49.1 images/s of ResNet-50, 36.0 of VGG16; a third of it forward, two thirds backward), and every variable of
the network is there with a twelfth of its elements. So 1 Gb/s stands for 12 Gb/s at full size; the sizes of
buckets are a twelfth as well.

Before anything is timed, the link is measured by ping-pong over gloo between two hosts; a rate far from the
requested one ends the program. The points and the link go to `--folder`, by default logs/emulated; those that
docs/scaling.md quotes are in docs/results/scaling_emulated. Needs a quiet machine.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hosts import Hosts, NotPermittedError, checked_rate, enter, skip

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import emulated_async  # noqa: E402
import torch  # noqa: E402
from emulated_worker import EmulatedJob, measure  # noqa: E402
from torchvision import models  # noqa: E402

from tempo.distributed.ps_sync import Placement  # noqa: E402
from tempo.scaling.cost_model import Method  # noqa: E402
from tempo.scaling.measured_point import SUFFIX, cores  # noqa: E402
from tempo.scaling.network_link import Link  # noqa: E402
from tempo.scaling.prediction import Calibration, predicted_point  # noqa: E402

SCALE = 12
IMAGES_PER_WORKER = 32
NETWORKS = {"resnet50": (models.resnet50, 49.1), "vgg16": (models.vgg16, 36.0)}
"""Constructor, and images per second of one K80 at batch 32."""
_BACKWARD_PART = 2 / 3
_WARMUP_STEPS, _FEWEST_STEPS, _MOST_STEPS = 2, 5, 10
_SECONDS_A_POINT = 7.0
_START_SECONDS, _MOST_SECONDS_A_POINT = 120.0, 60.0
_FIRST_PORT = 29600
_FROM_RATED, _TO_RATED = 0.85, 1.0
_UNITS = {"gbit": 1e9, "mbit": 1e6}


@dataclass(frozen=True)
class Variant:
    """One curve: a method and how it is used; `servers` is None for one server per worker."""

    method: Method
    overlap: bool = False
    servers: int | None = 1
    placement: Placement = "by_size"


VARIANTS = {
    "ring": Variant("ring"),
    "ring_overlapped": Variant("ring", overlap=True),
    "ps_sync": Variant("ps_sync"),
    "ps_sync_n_servers": Variant("ps_sync", servers=None),
    "ps_sync_n_servers_sharded": Variant("ps_sync", servers=None, placement="sharded"),
    "ps_async": Variant("ps_async"),
}


def calibration(network: str, link: Link) -> Calibration:
    """Return the cost model's numbers of the stand-in for a network."""
    build, single = NETWORKS[network]
    with torch.device("meta"):
        sizes = [max(1, round(variable.numel() / SCALE)) for variable in build().parameters()]
    step_seconds = IMAGES_PER_WORKER / single
    return Calibration(
        model=f"{network}/{SCALE}",
        images_per_worker=IMAGES_PER_WORKER,
        forward_seconds=(1 - _BACKWARD_PART) * step_seconds,
        backward_seconds=_BACKWARD_PART * step_seconds,
        optimizer_seconds=0.0,
        apply_seconds=0.0,
        sizes=sizes,
        bytes_per_second=link.bytes_per_second,
        message_seconds=link.message_seconds,
        bucket_mb=25 / SCALE,
        duplex=link.duplex,
    )


def job_of(numbers: Calibration, name: str, workers: int, link: Link, emulation: Emulation) -> EmulatedJob:
    """Return the job of one point; its number of steps follows from the model's prediction."""
    variant = VARIANTS[name]
    servers = workers if variant.servers is None else variant.servers
    expected = predicted_point(
        numbers,
        variant.method,
        workers,
        servers=servers,
        placement=variant.placement,
        overlap=variant.overlap,
    ).step_seconds
    steps = min(_MOST_STEPS, max(_FEWEST_STEPS, int(_SECONDS_A_POINT / expected)))
    stem = f"{numbers.model.partition('/')[0]}_{name}_{workers}"
    known = {
        "model": numbers.model,
        "single_images_per_second": numbers.images_per_worker / numbers.step_seconds,
        "compute_seconds": numbers.step_seconds,
        "link": f"{emulation.rate} a host and direction (tc tbf), one machine",
        "bytes_per_second": link.bytes_per_second,
        "message_seconds": link.message_seconds,
        "command": emulation.command,
        "note": f"compute is sleep; all hosts share {cores()} cores{emulation.note}",
    }
    reply = "gradients" if variant.placement == "sharded" else "parameters"
    if variant.method != "ring":
        known |= {"servers": servers, "placement": variant.placement, "reply": reply}
    return EmulatedJob(
        point_file=str(emulation.folder / f"{stem}{SUFFIX}"),
        method=variant.method,
        forward_seconds=numbers.forward_seconds,
        backward_seconds=numbers.backward_seconds,
        sizes=numbers.sizes,
        warmup_steps=_WARMUP_STEPS,
        steps=_WARMUP_STEPS + steps,
        bucket_mb=numbers.bucket_mb if variant.overlap else 1e5,
        servers=servers,
        placement=variant.placement,
        reply=reply,
        images_per_worker=numbers.images_per_worker,
        known=known,
    )


def check_rate(link: Link, rate: str) -> None:
    """Refuse to time anything on a link that is not limited as requested.

    Raises:
        NotPermittedError: the measured rate is not 85 % to 100 % of the one that tc was given.
    """
    number, factor = next(
        (rate[: -len(unit)], value) for unit, value in _UNITS.items() if rate.endswith(unit)
    )
    part = link.bytes_per_second * 8 / (float(number) * factor)
    if not _FROM_RATED <= part <= _TO_RATED:
        raise NotPermittedError(
            f"the link was set to {rate} and carries {part:.2f} of it: is the machine busy?"
        )


@dataclass(frozen=True, kw_only=True)
class Emulation:
    """What to measure: `names` of `VARIANTS`, `networks` of `NETWORKS`, numbers of workers."""

    folder: Path
    names: Sequence[str]
    networks: Sequence[str]
    counts: Sequence[int]
    rate: str
    command: str
    note: str = ""

    def run(self) -> None:
        """Measure the link, then all points.

        Raises:
            NotPermittedError: no hosts, or a link that is not limited as requested.
            RuntimeError: a rank failed; its output says why.
        """
        on_hosts = [name for name in self.names if VARIANTS[name].method != "ps_async"]
        with_ray = [name for name in self.names if VARIANTS[name].method == "ps_async"]
        # The asynchronous server has a host of its own.
        hosts = Hosts(max(2, max(self.counts) + bool(with_ray)), self.rate)
        os.environ["PYTHONPATH"] = str(ROOT / "src")
        link = self._link(hosts)
        with tempfile.TemporaryDirectory(prefix="tempo_ray_") as folder:
            for workers in self.counts if on_hosts else ():
                # One worker exchanges nothing: one point serves all methods.
                names = on_hosts if workers > 1 else on_hosts[:1]
                files = self._write_jobs(Path(folder), names, [workers], link)
                self._start(hosts, ["--rank", *files], workers, len(files))
            if with_ray:
                os.environ |= {
                    "RAY_USAGE_STATS_ENABLED": "0",
                    "RAY_AUTH_MODE": "token",
                    "RAY_AUTH_TOKEN": secrets.token_hex(32),
                    emulated_async.FOLDER: folder,
                }
                files = self._write_jobs(Path(folder), with_ray, self.counts, link)
                self._start(hosts, ["--rank", *files, "--address", "{address}"], hosts.count, len(files))

    def _link(self, hosts: Hosts) -> Link:
        file = self.folder / "link.json"
        measure_link = [sys.executable, "-m", "tempo.scaling.network_link", str(file)]
        if code := hosts.run(measure_link, _START_SECONDS, ranks=2):
            raise RuntimeError(f"the link could not be measured: exit code {code}")
        link = Link.read(file)
        check_rate(link, self.rate)
        rate, latency = link.bytes_per_second * 8 / 1e9, link.message_seconds * 1e3
        print(f"link: {rate:.3f} Gb/s, {latency:.2f} ms", flush=True)
        return link

    def _write_jobs(self, folder: Path, names: Sequence[str], counts: Sequence[int], link: Link) -> list[str]:
        files = []
        for network in self.networks:
            numbers = calibration(network, link)
            for name in names:
                for workers in counts:
                    job = job_of(numbers, name, workers, link, self)
                    files.append(folder / f"{Path(job.point_file).name.removesuffix(SUFFIX)}@{workers}")
                    job.write(files[-1])
        return [str(path) for path in files]

    def _start(self, hosts: Hosts, arguments: Sequence[str], ranks: int, points: int) -> None:
        command = [sys.executable, str(Path(__file__).resolve()), *arguments]
        if code := hosts.run(command, _START_SECONDS + _MOST_SECONDS_A_POINT * points, ranks=ranks):
            raise RuntimeError(f"{ranks} hosts failed: exit code {code}")


def take_part(files: Sequence[str]) -> None:
    """Take part in one job after the other, each with a meeting place of its own."""
    for number, file in enumerate(files):
        os.environ["MASTER_PORT"] = str(_FIRST_PORT + number)
        job = EmulatedJob.read(Path(file))
        measure(job)
        if os.environ["RANK"] == "0":
            print(f"{Path(job.point_file).name.removesuffix(SUFFIX)} done", flush=True)


def command_line() -> argparse.ArgumentParser:
    """Return the parser; a trial run without --folder must not replace the published points."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--methods", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--hosts", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--rate", type=checked_rate, default="1gbit", help="of a link: 250mbit, 1gbit")
    parser.add_argument("--folder", type=Path, default=ROOT / "logs" / "emulated", help="of the points")
    parser.add_argument("--note", default="", help="kept in every point: what else the machine does")
    parser.add_argument("--rank", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Read the command line, make the hosts, write the points."""
    arguments = command_line().parse_args()
    if arguments.rank and arguments.address:
        counts = [int(file.rpartition("@")[2]) for file in arguments.rank]
        return emulated_async.take_part(arguments.rank, arguments.address, counts)
    if arguments.rank:
        return take_part(arguments.rank)
    command = shlex.join(["python", "benchmarks/emulated.py", *sys.argv[1:]])
    try:
        enter()
        folder = arguments.folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        Emulation(
            folder=folder,
            names=arguments.methods,
            networks=arguments.models,
            counts=arguments.hosts,
            rate=arguments.rate,
            command=command,
            note=f"; {arguments.note}" if arguments.note else "",
        ).run()
    except NotPermittedError as reason:
        skip(reason)


if __name__ == "__main__":
    main()
