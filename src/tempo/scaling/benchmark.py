"""Main part of `src/scale.py`: measure the missing points one by one, then report all of them."""

from __future__ import annotations

import glob
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from tempo.config.resolve_interpolations import plain
from tempo.config.schema import SMOKE
from tempo.errors import INTERRUPTED_CODE, UserError
from tempo.record.folder_lock import FolderLock
from tempo.record.run_json import FILE_NAME
from tempo.scaling.calibrate import calibrate
from tempo.scaling.measured_point import SUFFIX, ScalingPoint, cores, read_points, with_single
from tempo.scaling.measured_run import point_of_run, train_within
from tempo.scaling.model_size import size_of
from tempo.scaling.model_table import ModelSize, write_sizes
from tempo.scaling.network_link import Link
from tempo.scaling.plan import PlannedPoint, networks_of, plan_of
from tempo.scaling.points_report import ScalingReport, text_of, write_scaling_report
from tempo.scaling.prediction import WORKERS, predict_points
from tempo.scaling.scale_settings import ScalingSettings, settings_of, without_scaling

PREDICTED = "predicted"
"""Subfolder of a benchmark for the points of `predict`."""


def run_from_hydra(config: DictConfig) -> None:
    """Measure the points of a composed configuration and report them.

    Raises:
        UserError: a network is unknown, there are more workers than devices, the folder is in use, or no
            point was measured.
        SystemExit: code 130 if the user stopped it; 1 if a point failed.
    """
    overrides = [str(override) for override in HydraConfig.get().overrides.task]
    settings = settings_of(config, overrides)
    values = plain(without_scaling(config))
    folder = Path(HydraConfig.get().runtime.output_dir)
    with FolderLock(folder, what="the same benchmark", remedy="choose another name=<name>"):
        Benchmark(values, settings, folder, overrides).run()


@dataclass
class Benchmark:
    """The points of one command, in `folder`."""

    values: Mapping[str, Any]
    settings: ScalingSettings
    folder: Path
    overrides: Sequence[str] = ()

    @property
    def command(self) -> str:
        """The command line."""
        return shlex.join(["python", "src/scale.py", *self.overrides])

    def run(self) -> None:
        """Measure or predict all points, then report; raise UserError as `run_from_hydra` does."""
        settings = self.settings
        check_devices(self.values["trainer"], settings)
        networks = networks_of(self.values, settings, HydraConfig.get().runtime.choices["model"])
        sizes = [
            size_of(network, image_size=settings.image_size, classes=settings.classes) for network in networks
        ]
        write_sizes(sizes, self.folder)
        if self.values["scale"] == "smoke":
            print(f"*** {SMOKE} ***")
        planned = plan_of(self.values, settings, networks, self.folder)
        try:
            points, failures = self._predict(planned) if settings.predict else self.measure(planned)
        except KeyboardInterrupt:
            print("stopped; rerun the command to continue")
            raise SystemExit(INTERRUPTED_CODE) from None
        self._report(points, failures, sizes)

    def measure(self, planned: Sequence[PlannedPoint]) -> tuple[list[ScalingPoint], list[str]]:
        """Return the points, including those of earlier commands, and one line per failed point."""
        _warn_of_shared_cores(planned)
        points: list[ScalingPoint] = []
        failures: list[str] = []
        mark = f" [{SMOKE}]" if self.values["scale"] == "smoke" else ""
        for wanted in planned:
            point = wanted.done()
            verb = "measured" if point is None else "kept"
            if point is None:
                try:
                    point = self._measure(wanted)
                except UserError as error:
                    failures.append(f"{wanted.name}: {error}")
                    print(f"failed    {failures[-1]}", flush=True)
                    continue
            points = with_single([*points, point])
            points[-1].write(wanted.path)
            print(f"{verb:<10}{wanted.name}: {_summary(points[-1])}{mark}", flush=True)
        return points, failures

    def _measure(self, wanted: PlannedPoint) -> ScalingPoint:
        folder = wanted.run_folder
        (folder / FILE_NAME).unlink(missing_ok=True)  # an earlier attempt's record would count as this one's
        train_within(wanted.config, folder, 60 * self.settings.minutes)
        point = point_of_run(folder, warmup_steps=wanted.warmup_steps, command=self.command)
        shutil.rmtree(folder / "checkpoints")  # the network was trained on noise
        return point

    def _predict(self, planned: Sequence[PlannedPoint]) -> tuple[list[ScalingPoint], list[str]]:
        """Calibrate one worker of each network and predict; also return the points measured here earlier."""
        link = Link.read(Path(self.settings.link).expanduser()) if self.settings.link else None
        named = any(override.startswith("scaling.workers=") for override in self.overrides)
        points = [point for wanted in planned if (point := wanted.done()) is not None]
        for wanted in planned:
            if wanted.workers > 1:
                continue
            calibration = calibrate(wanted.config, self.settings.images_per_worker, link, self.command)
            print(f"calibrated {wanted.model}: {calibration.summary}", flush=True)
            predicted = predict_points(
                calibration,
                self.settings.methods,
                self.settings.workers if named else WORKERS,
                servers=self.values["server"]["count"],
                placement=self.values["server"]["placement"],
            )
            # An earlier prediction may have had more numbers of workers, and its points would stay.
            for old in (self.folder / PREDICTED).glob(f"{glob.escape(wanted.stem)}_*{SUFFIX}"):
                old.unlink()
            for number, point in enumerate(predicted):
                point.write(self.folder / PREDICTED / f"{wanted.stem}_{number:03}{SUFFIX}")
            points += predicted
        return points, []

    def _report(
        self, points: Sequence[ScalingPoint], failures: Sequence[str], sizes: Sequence[ModelSize]
    ) -> None:
        if not points:
            raise UserError(f"no point was measured; the first failure: {failures[0]}")
        beside, refused = read_points([Path(folder).expanduser() for folder in self.settings.beside])
        if not self.settings.predict:
            predicted, _ = read_points([self.folder / PREDICTED])
            kinds = {(point.model, point.image_size, point.images_per_worker) for point in points}
            beside += [
                point
                for point in predicted
                if (point.model, point.image_size, point.images_per_worker) in kinds
            ]
        report = ScalingReport(
            title=f"Scaling: {self.folder.name}",
            points=with_single([*points, *beside]),
            sizes=sizes,
            failures=[*failures, *refused],
            smoke=self.values["scale"] == "smoke",
        )
        page = write_scaling_report(report, self.folder / "report")
        print(text_of(report))
        print(page)
        if failures:
            total = len(points) + len(failures)
            sys.exit(f"{len(failures)} of {total} points failed; rerun the command to try only those again")


def check_devices(trainer: Mapping[str, Any], settings: ScalingSettings) -> None:
    """Raise UserError if the machine has fewer devices than workers, or none for the backend."""
    accelerator, gpus = trainer["accelerator"], torch.cuda.device_count()
    most = 1 if settings.predict else max(settings.workers)
    if accelerator == "mps":
        raise UserError("trainer.accelerator=mps is one device; use trainer=cpu")
    on_gpu = accelerator == "gpu" or (accelerator == "auto" and gpus > 0)
    if on_gpu and gpus < most:
        fewer = [count for count in settings.workers if count <= gpus]
        raise UserError(
            f"scaling.workers={settings.workers}: {most} workers need a GPU each, and this machine "
            f"has {gpus}; "
            + (f"set scaling.workers={fewer}, or use trainer=cpu" if fewer else "use trainer=cpu")
        )
    if trainer["backend"] == "nccl" and not on_gpu:
        raise UserError(
            "trainer.backend=nccl needs GPUs, and this benchmark runs on the CPU; set trainer.backend=gloo"
        )


def _warn_of_shared_cores(planned: Sequence[PlannedPoint]) -> None:
    trainer = planned[0].config.trainer
    most, threads = max(wanted.workers for wanted in planned), trainer.threads or 1
    on_cpu = trainer.accelerator == "cpu" or not torch.cuda.is_available()
    if on_cpu and most * threads > (available := cores()):
        print(
            f"note      {most} workers of {threads} thread{'s' * (threads > 1)} share {available} cores: "
            "such points show contention for cores, not a network"
        )


def _summary(point: ScalingPoint) -> str:
    scaling = "" if point.efficiency is None else f", scaling {100 * point.efficiency:.1f} %"
    return f"{point.images_per_second:.4g} images/s, step {1e3 * point.step_seconds:.4g} ms{scaling}"
