"""What `src/scale.py` does: point after point, what is missing only, then the table and the report."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from tempo.config.resolve import plain
from tempo.distributed.ps_async_ray import ray_cluster, variables_of_server
from tempo.errors import INTERRUPTED_CODE, UserError
from tempo.record.folder_lock import FolderLock
from tempo.report.number_format import SMOKE
from tempo.scaling.calibrate import calibrate
from tempo.scaling.group import run_group
from tempo.scaling.link import Link
from tempo.scaling.model_size import size_of
from tempo.scaling.model_table import ModelSize, write_sizes
from tempo.scaling.page import ScalingReport, text_of, write_scaling_report
from tempo.scaling.plan import Network, Planned, networks_of, plan_of
from tempo.scaling.point import SUFFIX, ScalingPoint, cores, read_points, with_single
from tempo.scaling.prediction import WORKERS, Calibration, predict_points
from tempo.scaling.settings import ScalingSettings, settings_of, without_scaling

Config = Mapping[str, Any]


def run_from_hydra(config: DictConfig) -> None:
    """Measure the points of a composed configuration and report them.

    Raises:
        UserError: an unknown network, more workers than devices, a folder in use; no point was measured.
        SystemExit: 130 where the user stopped it: the same command goes on.
    """
    settings = settings_of(config, [str(each) for each in HydraConfig.get().overrides.task])
    values = plain(without_scaling(config))
    folder = Path(HydraConfig.get().runtime.output_dir)
    with FolderLock(folder, what="the same benchmark", remedy="choose another name=<name>"):
        Benchmark(values, settings, folder).run()


PREDICTED = "predicted"
"""Below the folder of a benchmark: the points of `predict`."""


@dataclass
class Benchmark:
    """The points of one command, in `folder`."""

    config: Config
    settings: ScalingSettings
    folder: Path

    def run(self) -> None:
        """All of them; UserError as `run_from_hydra`."""
        accelerator = accelerator_of(self.config, self.settings)
        networks = networks_of(self.config, self.settings, HydraConfig.get().runtime.choices["model"])
        sizes = [self._size(each) for each in networks]
        write_sizes(sizes, self.folder)
        smoke = self.config["scale"] == "smoke"
        if smoke:
            print(f"*** {SMOKE} ***")
        planned = plan_of(
            self.config,
            self.settings,
            networks,
            folder=self.folder,
            accelerator=accelerator,
            command=command(),
        )
        failures: list[str] = []
        try:
            if self.settings.predict:
                points = self._predict(planned)
            else:
                _warn_of_shared_cores(planned)
                points, failures = self._measure(planned)
        except KeyboardInterrupt:
            print("stopped; the same command goes on with what is missing")
            raise SystemExit(INTERRUPTED_CODE) from None
        self._report(points, failures, sizes, smoke)

    def _size(self, network: Network) -> ModelSize:
        return size_of(network, image_size=self.settings.image_size, classes=self.settings.classes)

    def _measure(self, planned: Sequence[Planned]) -> tuple[list[ScalingPoint], list[str]]:
        """The points, those of earlier calls included, and a line for each that failed."""
        points: list[ScalingPoint] = []
        failures: list[str] = []
        needs_ray = any(each.job.method == "ps_async" and each.done() is None for each in planned)
        with _ray(needs_ray) as address:
            alone: dict[str, float] = {}
            for each in planned:
                try:
                    point, known = self._point(each, alone.get(each.job.model), address)
                except UserError as error:
                    failures.append(f"{each.name}: {error}")
                    print(f"failed    {failures[-1]}", flush=True)
                    continue
                if each.is_single:
                    alone[each.job.model] = point.images_per_second
                points.append(point)
                print(f"{'kept' if known else 'measured':<10}{each.name}: {_said(point)}", flush=True)
        return points, failures

    def _predict(self, planned: Sequence[Planned]) -> list[ScalingPoint]:
        """Calibrate one worker of each network, and compute; points that were measured here stand beside."""
        link = Link.read(Path(self.settings.link).expanduser()) if self.settings.link else None
        asked = any(each.startswith("scaling.workers=") for each in HydraConfig.get().overrides.task)
        workers = self.settings.workers if asked else WORKERS
        points = [found for each in planned if (found := each.done()) is not None]
        for each in planned:
            if not each.is_single:
                continue
            calibration = calibrate(each.job, link)
            print(f"calibrated {each.job.model}: {calibration_words(calibration)}", flush=True)
            predicted = predict_points(
                calibration,
                self.settings.methods,
                workers,
                servers=each.job.servers,
                placement=each.job.placement,
            )
            name = each.path.name.removesuffix(SUFFIX)
            for old in (self.folder / PREDICTED).glob(f"{glob.escape(name)}_*{SUFFIX}"):
                old.unlink()
            for at, point in enumerate(predicted):
                point.write(self.folder / PREDICTED / f"{name}_{at:03}{SUFFIX}")
            points += predicted
        return points

    def _point(self, planned: Planned, alone: float | None, address: str) -> tuple[ScalingPoint, bool]:
        if (known := planned.done()) is not None:
            return known, True
        logs = self.folder / "logs" / planned.path.name.partition(".point")[0]
        try:
            run_group(
                dataclasses.replace(planned.job, single_images_per_second=alone),
                planned.workers,
                folder=logs,
                limit_seconds=60 * self.settings.minutes,
                port=self.settings.port,
                variables=variables_of_server(address) if address else {},
            )
        except UserError:
            if planned.done() is None:  # else all steps were taken, and only the processes' end went wrong
                raise
        shutil.rmtree(logs)
        point = planned.done()
        if point is None:
            raise UserError(f"{planned.path} was not written; see {logs}")
        return point, False

    def _report(
        self,
        points: Sequence[ScalingPoint],
        failures: Sequence[str],
        sizes: Sequence[ModelSize],
        smoke: bool,
    ) -> None:
        folders = [Path(each).expanduser() for each in self.settings.beside]
        beside, refused = read_points(folders)
        if not self.settings.predict:
            known, _ = read_points([self.folder / PREDICTED])
            kinds = {(each.model, each.image_size, each.images_per_worker) for each in points}
            beside += [
                each for each in known if (each.model, each.image_size, each.images_per_worker) in kinds
            ]
        if not points:
            raise UserError(f"no point was measured; the first: {failures[0]}")
        shown = with_single([*points, *beside])
        report = ScalingReport(
            title=f"Scaling: {self.folder.name}",
            points=shown,
            sizes=sizes,
            failures=[*failures, *refused],
            smoke=smoke,
        )
        page = write_scaling_report(report, self.folder / "report")
        print(text_of(report))
        if smoke:
            print(f"*** {SMOKE} ***")
        print(page)
        if failures:
            sys.exit(
                f"{len(failures)} of {len(points) + len(failures)} points failed: the same command tries "
                "them again"
            )


def accelerator_of(config: Config, settings: ScalingSettings) -> str:
    """`cpu` or `gpu`; UserError where there are fewer devices than workers, or the backend has none."""
    asked, there, most = config["trainer"]["accelerator"], torch.cuda.device_count(), max(settings.workers)
    if settings.predict:
        most = 1
    if asked == "mps":
        raise UserError("trainer.accelerator=mps is one device: trainer=cpu")
    on_gpu = asked == "gpu" or (asked == "auto" and there > 0)
    if on_gpu and there < most:
        few = [each for each in settings.workers if each <= there]
        raise UserError(
            f"scaling.workers={settings.workers}: {most} workers, and this machine has {there} GPUs: "
            + (f"scaling.workers={few}, or trainer=cpu" if few else "trainer=cpu")
        )
    if config["trainer"]["backend"] == "nccl" and not on_gpu:
        raise UserError("trainer.backend=nccl needs GPUs, this benchmark is on the CPU: trainer.backend=gloo")
    return "gpu" if on_gpu else "cpu"


def command() -> str:
    """As it was typed."""
    return shlex.join(["python", "src/scale.py", *HydraConfig.get().overrides.task])


def calibration_words(calibration: Calibration) -> str:
    """The numbers that predictions follow from."""
    parts = (calibration.forward_seconds, calibration.backward_seconds, calibration.optimizer_seconds)
    forward, backward, optimizer = (f"{1e3 * each:.4g}" for each in parts)
    return (
        f"forward {forward}, backward {backward}, optimizer {optimizer} ms; gradients "
        f"{calibration.gradient_bytes / 1e6:.4g} MB over {calibration.bytes_per_second / 1e9:.3g} GB/s, "
        f"{1e6 * calibration.message_seconds:.3g} us a message"
    )


@contextlib.contextmanager
def _ray(needed: bool) -> Iterator[str]:
    """The address of a Ray for the asynchronous servers; "" where none is needed."""
    if not needed:
        yield ""
        return
    with ray_cluster() as address:
        yield address


def _warn_of_shared_cores(planned: Sequence[Planned]) -> None:
    job = planned[0].job
    most = max(each.workers for each in planned)
    if job.accelerator == "cpu" and most * job.threads > (there := cores()):
        print(
            f"note      {most} workers of {job.threads} thread{'s' * (job.threads > 1)} share {there} cores: "
            "such points show contention for cores, not a network"
        )


def _said(point: ScalingPoint) -> str:
    scaling = "" if point.efficiency is None else f", scaling {100 * point.efficiency:.1f} %"
    return f"{point.images_per_second:.4g} images/s, step {1e3 * point.step_seconds:.4g} ms{scaling}"
