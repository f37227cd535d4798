"""One run in one process, from the first second to the last."""

from __future__ import annotations

import contextlib
import logging
import time
from pathlib import Path

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException

from tempo.command_line.error_messages import task_line
from tempo.config.check import Config
from tempo.distributed.fsdp2 import load_whole
from tempo.distributed.process_group import place
from tempo.distributed.ps_sync import SyncServerStrategy
from tempo.errors import UserError
from tempo.record.atomic_write import remove_unfinished
from tempo.record.run_folder import BEST, LAST, check_resumable, point_latest_at
from tempo.record.run_json import RunRecord
from tempo.report.curve_figures import draw_confusion, draw_curves
from tempo.run import build
from tempo.run.callbacks import build_callbacks
from tempo.run.describe import changes_since, describe, first_record, keep_diff
from tempo.run.networks import start_from
from tempo.run.run_request import RunRequest
from tempo.scheduler.build import lr_factor
from tempo.task.async_classifier import AsyncClassifier
from tempo.task.lightning_internals import count_running_epoch_as_done
from tempo.trainer.checkpoint_file import load
from tempo.trainer.checkpoints import clear_traces, newest_whole
from tempo.trainer.console import print_header, print_results, schedule_line
from tempo.trainer.divergence import Diverged
from tempo.trainer.final_state import close_loggers, weights_sha256
from tempo.trainer.freed_memory import give_back_freed_memory
from tempo.trainer.interruption import Interrupted, Interruption
from tempo.trainer.pruning import Pruned
from tempo.trainer.quiet import quiet

log = logging.getLogger(__name__)

_OF_A_STATE = (AttributeError, LookupError, MisconfigurationException, RuntimeError, TypeError, ValueError)
"""What Lightning, a network or an optimizer raises that takes up a state which is none of its own."""


class Training:
    """Builds, fits, tests and records, and says in the record what ended it.

    `world_size` and `rank` are those that torchrun gave this process; 1 and 0 without it.
    """

    def __init__(self, job: RunRequest) -> None:
        self.job = job
        self.config = job.config
        self.folder = job.folder
        self.started = job.started
        here = place()
        self.world_size, self.rank = (here.world_size, here.rank) if here else (1, 0)
        self.seconds_before = 0.0
        self.before: RunRecord | None = None
        """What the record of a resumed run says so far."""
        self.interruption = Interruption()
        self.record, self.diff = first_record(job.config, job.overrides, job.choices)

    def run(self) -> RunRecord:
        """The whole course of a run, whatever ends it.

        Raises:
            KeyboardInterrupt: the run is over and recorded, and was asked to stop too late: for its starter.
        """
        quiet()
        _seed(self.config)
        checkpoint = self._checkpoint()  # before the try: a run that may not be resumed keeps its record
        with self.interruption:
            self._run(checkpoint)
        if self.interruption.by_signal and self.record.finished and self.world_size == 1:
            raise KeyboardInterrupt
        return self.record

    @property
    def ended_together(self) -> bool:
        """Whether no rank can be in the middle of an exchange any longer."""
        return self.record.status != "interrupted" or self.interruption.agreed

    def _run(self, checkpoint: Path | None) -> None:
        record = self.record
        try:
            self._build(checkpoint)
            self._fit(checkpoint)
            self._test()
            self.interruption.patient = True
            record.status = "completed"
        except Diverged as end:
            record.status, record.reason = "diverged", str(end)
            record.objective |= {"value": float("nan")}
        except Pruned as end:
            record.status, record.reason = "pruned", str(end)
        except (Interrupted, KeyboardInterrupt) as end:
            record.status, record.reason = "interrupted", str(end) or "SIGINT"
        except BaseException as error:
            if isinstance(error.__context__, KeyboardInterrupt):  # Lightning exits on a second Ctrl-C
                record.status, record.reason = "interrupted", "SIGINT"
                self._close()
                raise KeyboardInterrupt from error
            record.status, record.reason = "failed", f"{type(error).__name__}: {error}".splitlines()[0]
            with contextlib.suppress(OSError):  # a full disk is said once
                self._close()
            raise
        self._close()
        if self.rank == 0:
            point_latest_at(self.folder)
            self._show()

    def _checkpoint(self) -> Path | None:
        if self.rank == 0:
            remove_unfinished(self.folder)
        if not self.config["resume"]:
            if self.rank == 0:
                clear_traces(self.folder)  # of a run that came to nothing here
            return None
        check_resumable(self.config, self.folder)
        self.before = before = RunRecord.read(self.folder)
        seconds = before.seconds
        known = (seconds.get("total", 0.0), seconds.get("startup", 0.0) + seconds.get("train", 0.0))
        self.seconds_before = max(known)
        self.record.sessions = [*before.sessions, *self.record.sessions]
        self.record.init_from, self.record.data = before.init_from, before.data
        path, complaints = newest_whole(
            self.folder / "checkpoints",
            self.record.config_hash,
            needs_best=self.config["checkpoint"]["select"] == "best",
        )
        for line in complaints:
            log.warning(line)
        if path is not None:  # until the first row is written
            self.record.steps, self.record.epochs = before.steps, before.epochs
            self.record.metrics = before.metrics
        return path

    def _build(self, checkpoint: Path | None) -> None:
        config, record = self.config, self.record
        data = build.build_data(config)
        if record.data.get("sha256") not in (None, data.sha256):
            raise UserError(
                f"the images are not those that the run began with (SHA-256 {data.sha256[:12]}, recorded "
                f"{str(record.data['sha256'])[:12]}): put them back, or start a new run without resume="
            )
        build.check_every_rank_has_images(data, self.world_size)
        plan = build.build_plan(config, len(data.train), self.world_size, self.rank)
        module = build.build_module(config, data, plan)
        if config["init_from"] and checkpoint is None:
            record.init_from = start_from(module.network, config["init_from"])
        callbacks = build_callbacks(self.job, record, data, plan, module, self.interruption)
        self.recorder, self.checkpoints = callbacks.recorder, callbacks.checkpoints
        self.steps_before = 0 if checkpoint is None else int(load(checkpoint)["global_step"])
        steps_done = self.steps_before if config["resume"] else None
        loggers = build.build_loggers(config, self.folder, steps_done) if self.rank == 0 else []
        self.trainer = build.build_trainer(config, self.folder, plan, callbacks.in_order, loggers)
        device = self.trainer.strategy.root_device
        data.train = build.on_best_device(data.train, device)
        self.data, self.plan, self.module = data, plan, module
        describe(record, data, plan, module, device)
        record.world_size = self.world_size
        if self.before is not None and self.rank == 0:
            for each in changes_since(self.before, record):
                log.warning("resumed under other conditions, the same bits are not promised: %s", each)
        self._announce()

    def _announce(self) -> None:
        """Write the first record and print what is about to be trained."""
        self.record.seconds["startup"] = time.perf_counter() - self.started
        if self.rank == 0:
            keep_diff(self.record, self.folder, self.diff, resumed=bool(self.config["resume"]))
            self.record.write(self.folder)
            words = schedule_line(self.module.schedule, self.module.total_steps, self.plan.steps_per_epoch)
            if (factor := lr_factor(self.config)) != 1:
                trainer = self.config["trainer"]
                rule, reference = trainer["lr_scaling"], trainer["lr_reference_batch"]
                words += f" (x {factor:.4g}: {rule} from a batch of {reference})"
            print_header(self.record, len(self.data.train.classes), words)

    def _fit(self, checkpoint: Path | None) -> None:
        batches = build.build_train_batches(self.config, self.data, self.module)
        val = (
            None if self.data.val is None else build.build_eval_batches(self.config, self.data.val, self.plan)
        )
        try:
            self.trainer.fit(self.module, batches, val, ckpt_path=checkpoint, weights_only=True)
        except _OF_A_STATE as error:
            if "does not have a deterministic implementation" in str(error):
                words = str(error).split(" does not have")[0]
                raise UserError(
                    f"trainer.deterministic=true: {words} has no deterministic form on this device; "
                    "trainer.deterministic=false"
                ) from error
            if checkpoint is not None and self.trainer.global_step <= self.steps_before:
                self._refuse_state(checkpoint, error)
            raise
        finally:
            self._describe_exchange()
        if self.trainer.world_size != self.plan.world_size:
            raise RuntimeError(f"{self.trainer.world_size} processes trained, {self.world_size} were planned")
        done, stopped = self.trainer.global_step, self.trainer.should_stop
        if done != self.module.total_steps and not stopped:
            if checkpoint is not None and done == self.steps_before:
                self._refuse_state(checkpoint, RuntimeError(f"it ends the run after {done} steps"))
            raise RuntimeError(
                f"{done} optimizer steps were taken, the schedule has {self.module.total_steps}"
            )
        if val is not None and self.recorder.validated_step != done:
            # The run ends within an epoch, where Lightning's loop does not validate.
            count_running_epoch_as_done(self.trainer)
            self.trainer.validate(self.module, val, verbose=False)
            self.checkpoints.save(self.trainer)

    def _describe_exchange(self) -> None:
        if isinstance(self.module, AsyncClassifier):
            self.record.exchange = self.module.exchange
            self.record.world_size = len(self.module.counts.steps_of_workers) or self.world_size
        elif isinstance(self.trainer.strategy, SyncServerStrategy):
            self.record.exchange = self.trainer.strategy.exchange

    def _refuse_state(self, checkpoint: Path, error: Exception) -> None:
        """Say in a line that a state did not fit, where it was not memory that failed."""
        if task_line(error, None) is None:
            raise UserError(
                f"{checkpoint} is no state that this run can go on from ({type(error).__name__}: "
                f"{str(error)[:200]}; HYDRA_FULL_ERROR=1 shows where): remove it to go on from the one "
                "before it, or start a new run without resume="
            ) from error

    def _test(self) -> None:
        begin = time.perf_counter()
        give_back_freed_memory()  # a test's batches are of another size than a step's
        record, checkpoints = self.record, self.checkpoints
        best = self.config["checkpoint"]["select"] == "best" and checkpoints.best_value is not None
        path = self.folder / "checkpoints" / (BEST if best else LAST)
        load_whole(self.module, load(path)["state_dict"])
        if best:
            record.metrics["val"] = checkpoints.best_metrics
            record.selected = {
                "by": str(checkpoints.monitor),
                "value": checkpoints.best_value,
                "step": checkpoints.best_step,
            }
        else:
            record.selected = {"by": "last", "value": None, "step": self.trainer.global_step}
        batches = build.build_eval_batches(self.config, self.data.test, self.plan)
        self.trainer.test(self.module, batches, verbose=False)
        result = self.module.evaluated
        if result["images"] != len(self.data.test):
            raise RuntimeError(
                f"{result['images']} test images were counted, there are {len(self.data.test)}"
            )
        record.n_evaluated = int(result["images"])
        record.metrics["test"] = {name: result[name] for name in ("loss", "accuracy")}
        split, name = self.config["objective"].split("/")
        record.objective |= {"value": record.metrics[split][name]}
        record.weights_sha256 = weights_sha256(self.module.tested_network)
        record.seconds["test"] = time.perf_counter() - begin

    def _close(self) -> None:
        """Write pictures and record; nothing here may hide the error that ended the run."""
        self.interruption.patient = True
        if self.rank != 0:
            return
        record = self.record
        built = hasattr(self, "trainer")
        if record.status != "completed" and built and self.trainer.lightning_module is not None:
            self.recorder.pause()
            self.recorder.write_record(self.trainer)
        record.seconds["total"] = self.seconds_before + time.perf_counter() - self.started
        try:
            if record.status == "completed":
                self._pictures()
            if built:
                close_loggers(self.trainer.loggers, record)
        finally:
            # Last: what is killed before this word is resumed, and has its pictures in the end.
            record.write(self.folder)

    def _pictures(self) -> None:
        title = f"{self.record.name}, seed {self.record.seed}"
        draw_curves(self.recorder.metrics_file.path, self.folder / "curves.png", title)
        counts, classes = self.module.confusion_counts.numpy(), self.data.test.classes
        draw_confusion(counts, classes, self.folder / "confusion.png", f"{title}: test images")

    def _show(self) -> None:
        print_results(self.record, self.folder)


def _seed(config: Config) -> None:
    if config["trainer"]["threads"] is not None:
        torch.set_num_threads(config["trainer"]["threads"])
    pl.seed_everything(config["seed"], verbose=False)
