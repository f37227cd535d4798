"""Train a run: the only path from a configuration to a record."""

from __future__ import annotations

import contextlib
import gc
import time
from pathlib import Path

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from tempo.command_line.script import STARTED
from tempo.config.check import check
from tempo.config.keys_without_effect import keys_without_effect
from tempo.config.resolve_interpolations import chosen_options, plain
from tempo.config.run_length import lr_factor, planned_epochs, planned_steps, schedule_of
from tempo.config.schema import RunConfig
from tempo.distributed.process_group import check_layout, follows, has_group, leave_group, position
from tempo.errors import INTERRUPTED_CODE, UserError
from tempo.record.folder_lock import FolderLock
from tempo.record.run_folder import point_latest_at
from tempo.record.run_json import RunRecord
from tempo.report.run_figures import draw_confusion, draw_curves
from tempo.run.build_data import build_data
from tempo.run.build_run import RunParts, build_run
from tempo.run.build_trainer import check_devices
from tempo.run.fill_record import (
    first_record,
    keep_diff,
    keep_test_images,
    record_end,
    record_exchange,
    record_parts,
    record_test,
)
from tempo.run.load_run import load_state
from tempo.run.process_launch import launch_group, needs_group
from tempo.run.resume import STATE_ERRORS, Start, prepare_start, refuse_state, warn_of_changes
from tempo.run.run_request import RunRequest
from tempo.scheduler.preview import preview_figure, preview_table
from tempo.task.classifier import Classifier
from tempo.task.lightning_internals import count_running_epoch_as_done
from tempo.task.wrong_images import WrongImages
from tempo.trainer.console import print_header, print_notes, print_results, schedule_line
from tempo.trainer.loggers import close_loggers
from tempo.trainer.malloc_settings import give_back_freed_memory
from tempo.trainer.optuna_trial import trial_of
from tempo.trainer.process_settings import quiet
from tempo.trainer.stop_ranks_on_signal import Interrupted, StopOnSignal
from tempo.trainer.stopping_rules import Diverged, Pruned

_PREVIEW_POINTS = 1000
"""Number of points in a preview if the number of steps is unknown."""


def run_from_hydra(config: DictConfig) -> float | None:
    """Run the job that Hydra composed, in the folder that Hydra created; return the objective for a sweep."""
    hydra = HydraConfig.get()
    checked = check(plain(config))
    folder = Path(hydra.runtime.output_dir)
    if checked.preview:
        show_preview(checked, folder)
        return None
    overrides = OmegaConf.to_container(hydra.overrides.task)
    assert isinstance(overrides, list)
    request = RunRequest(
        config=checked,
        folder=folder,
        overrides=list(map(str, overrides)),
        choices=chosen_options(hydra),
        # A single run also pays for the imports; a sweep's job may share them with others.
        started=STARTED if hydra.mode == RunMode.RUN else time.perf_counter(),
        trial=trial_of(hydra, checked.trainer.epochs),
    )
    record = run(request)
    if record.status == "interrupted":
        raise SystemExit(INTERRUPTED_CODE)
    return record.objective.get("value")


def show_preview(config: RunConfig, folder: Path) -> None:
    """Print and plot the schedule (`preview=true`) without reading data."""
    schedule, steps = schedule_of(config), planned_steps(config)
    if steps is None:
        print("The size of this data set is unknown until it is read; the axis is in thousandths of the run.")
    print(preview_table(schedule, steps or _PREVIEW_POINTS))
    print_notes(keys_without_effect(config, steps, planned_epochs(config)))
    path = folder / "schedule.png"
    label = "optimizer step" if steps else "thousandth of the run"
    preview_figure(schedule, steps or _PREVIEW_POINTS, path, label)
    print(f"picture: {path}")


def run(request: RunRequest) -> RunRecord:
    """Train, choose a state by validation, test it once, write the record and return it.

    If the configuration asks for several processes, start them, wait, and return the record that they wrote.

    Raises:
        UserError: something the user can fix; the record then has status `failed` and the reason.
        KeyboardInterrupt: the run has ended and is recorded, but a signal asks its caller to stop too.
    """
    check_devices(request.config)
    check_layout(request.config.trainer.exchange)
    here = position()
    locked_elsewhere = follows() or (here is not None and here.is_ours)
    lock = FolderLock(request.folder, what="another run", remedy="choose another hydra.run.dir=<folder>")
    with contextlib.nullcontext() if locked_elsewhere else lock:
        if here is None and needs_group(request.config):
            build_data(request.config)  # download and decode once, before several processes need the data
            return launch_group(request)
        had_group = has_group()
        world_size, rank = (here.world_size, here.rank) if here else (1, 0)
        # A separate call, so that its network and trainer, which keep the group alive, are freed on return.
        record, ended_together = _train(request, world_size, rank)
        if "batches" in record.data:
            gc.collect()  # workers of a user's loaders hold the folder's lock until their loader is freed
        if ended_together and not had_group:
            leave_group()
        return record


def _train(request: RunRequest, world_size: int, rank: int) -> tuple[RunRecord, bool]:
    """Build, fit, test and record in this process; also return whether no rank still waits in an exchange."""
    record, diff = first_record(request.config, request.overrides, request.choices)
    quiet()
    seed_process(request.config)
    # Outside `try`: if the run cannot be resumed, its record must not change.
    start = prepare_start(request.config, request.folder, record, is_rank_zero=rank == 0)
    interruption, parts = StopOnSignal(), None
    interruption.stop_after = request.stop_after
    with interruption:
        try:
            parts = build_run(request, record, start, interruption, world_size=world_size, rank=rank)
            record_parts(record, parts, world_size)
            record.seconds["startup"] = time.perf_counter() - request.started
            if rank == 0:
                warn_of_changes(start, record)
                keep_diff(record, request.folder, diff, resumed=bool(request.config.resume))
                record.write(request.folder)
                _print_header(request.config, record, parts)
            try:
                fit(parts, start)
            finally:
                record_exchange(record, parts)
            test(parts, request, record)
            interruption.patient = True
            record_end(record, None)
        except (Diverged, Pruned, Interrupted, KeyboardInterrupt) as end:
            record_end(record, end)
        except BaseException as error:
            record_end(record, error)
            interruption.patient = True
            with contextlib.suppress(OSError):  # the error itself may be that the disk is full
                _close(request, record, parts, start, rank)
            if record.status == "interrupted":
                raise KeyboardInterrupt from error
            raise
        interruption.patient = True
        _close(request, record, parts, start, rank)
        if rank == 0:
            point_latest_at(request.folder)
            print_results(record, request.folder)
    if interruption.by_signal and record.finished and world_size == 1:
        raise KeyboardInterrupt
    return record, record.status != "interrupted" or interruption.agreed


def seed_process(config: RunConfig) -> None:
    """Set the number of threads and the global random state of this process."""
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    pl.seed_everything(config.seed, verbose=False)


def _print_header(config: RunConfig, record: RunRecord, parts: RunParts) -> None:
    progress = parts.task.progress
    schedule = schedule_line(progress.schedule, progress.total_steps, parts.plan.steps_per_epoch)
    if progress.schedule is not None and (factor := lr_factor(config)) != 1:
        trainer = config.trainer
        reference = trainer.lr_reference_batch
        schedule += f" (x {factor:.4g}: {trainer.lr_scaling} from a batch of {reference})"
    point = {} if progress.schedule is None else progress.schedule.at(0, progress.total_steps)
    print_header(record, schedule, point)
    epochs = -(-progress.total_steps // parts.plan.steps_per_epoch)
    print_notes(keys_without_effect(config, progress.total_steps, epochs))


def fit(parts: RunParts, start: Start) -> None:
    """Take all remaining optimizer steps, and validate the final state.

    Raises:
        UserError: a kernel is not deterministic, or the checkpoint does not fit the run.
    """
    trainer, module, progress = parts.trainer, parts.task.module, parts.task.progress
    try:
        trainer.fit(module, datamodule=parts.data, ckpt_path=start.checkpoint, weights_only=True)
    except STATE_ERRORS as error:
        if "does not have a deterministic implementation" in str(error):
            kernel = str(error).split(" does not have")[0]
            raise UserError(
                f"trainer.deterministic=true, but {kernel} has no deterministic form on this device; "
                "set trainer.deterministic=false"
            ) from error
        if "conditioned on metric" in str(error):
            metric = str(error).partition("conditioned on metric ")[2].split()[0]
            raise UserError(
                f"a scheduler of {type(module).__name__} monitors {metric}, which is not logged when it "
                "needs it; log it, give it the frequency of validation, or set trainer.val_every_n_epochs=1"
            ) from error
        if start.checkpoint is not None and progress.steps_done <= start.step:
            refuse_state(start, error)
        raise
    if trainer.world_size != parts.plan.world_size:
        raise RuntimeError(f"{trainer.world_size} processes trained, {parts.plan.world_size} were planned")
    done = progress.steps_done
    if done != progress.total_steps and not trainer.should_stop:
        if start.checkpoint is not None:
            refuse_state(start, RuntimeError(f"it ends the run after {done} steps"))
        raise RuntimeError(f"{done} optimizer steps were taken, the schedule has {progress.total_steps}")
    if parts.data.has_val and parts.recorder.validated_step != done:
        # The run ended within an epoch, so Lightning's loop did not validate.
        count_running_epoch_as_done(trainer)
        trainer.validate(module, datamodule=parts.data, verbose=False)
        parts.checkpoints.save(trainer)


def test(parts: RunParts, request: RunRequest, record: RunRecord) -> None:
    """Load the chosen state and test it on the test set, if there is one."""
    begin = time.perf_counter()
    give_back_freed_memory()  # kept blocks have the sizes of a training step, not of a test batch
    select = request.config.checkpoint.select
    chosen = parts.checkpoints.state_to_test(select, parts.task.progress.steps_done)
    load_state(parts.task.module, chosen.content)
    if parts.tests:
        parts.data.test_dataloader()  # a user's data may have no test set after all
    if parts.tests:
        if isinstance(parts.task.module, Classifier) and (most := request.config.trainer.wrong_images):
            parts.task.module.sums.wrong_images = WrongImages(most)
        parts.trainer.test(parts.task.module, datamodule=parts.data, verbose=False)
        images, expected = parts.task.progress.items_evaluated, parts.data.sizes["test"]
        if isinstance(parts.task.module, Classifier) and images != expected:
            raise RuntimeError(f"{images} test images were counted, there are {expected}")
    record_test(record, parts, chosen)
    record.seconds["test"] = time.perf_counter() - begin


def _close(request: RunRequest, record: RunRecord, parts: RunParts | None, start: Start, rank: int) -> None:
    """Write figures, the loggers' last values and the record, as far as the run was built."""
    if rank != 0:
        return
    completed = record.status == "completed"
    if parts is not None and not completed and parts.trainer.lightning_module is not None:
        parts.recorder.pause()
        parts.recorder.write_record(parts.trainer)
    record.seconds["total"] = start.seconds + time.perf_counter() - request.started
    try:
        if parts is not None and completed:
            title = f"{record.name}, seed {record.seed}"
            rows, tested = parts.recorder.metrics_file.path, record.selected.get("step")
            draw_curves(rows, request.folder / "curves.png", title, tested)
            module = parts.task.module
            counts = module.sums.confusion_counts if isinstance(module, Classifier) else None
            if counts is not None:
                file, what = request.folder / "confusion.png", f"{title}: test images"
                draw_confusion(counts.numpy(), parts.data.classes, file, what)
                keep_test_images(parts, request.folder)
        if parts is not None:
            close_loggers(parts.trainer.loggers, record)
    finally:
        # The record comes last: a run killed before this is resumed, and then draws its figures.
        record.write(request.folder)
