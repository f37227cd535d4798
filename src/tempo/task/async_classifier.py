"""Train with the asynchronous parameter server: the work of one worker."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer

from tempo.data.batches import Chunk, TrainBatches
from tempo.data.label_sets import hits
from tempo.distributed.ps_async_ray import AsyncWorker, serve
from tempo.distributed.ps_async_server import Counts, SetSchedule, served_parameters
from tempo.distributed.ray_cluster import ADDRESS, SERVER, connect
from tempo.scheduler.apply_to_optimizer import ScheduleAdapter
from tempo.scheduler.schedule import Schedule
from tempo.task.classifier import Classifier
from tempo.task.lightning_internals import chunks_begun_in_epoch, set_steps_done
from tempo.task.stepping import steps_of


class Span(NamedTuple):
    """Train until the server has taken `stop` steps; meanwhile it may give out batches below `until`."""

    stop: int
    until: int


class NoMoreBatches(Exception):  # noqa: N818 - an end, not an error
    """Ends the training of a worker when the server has no more work for it."""


class AsyncBatches:
    """Spans of an epoch, which end at the same steps as the chunks of `TrainBatches`."""

    def __init__(self, batches: TrainBatches, chunks_done: Callable[[], int]) -> None:
        self.batches = batches
        self.chunks_done = chunks_done

    def __len__(self) -> int:
        """Return the number of spans in a whole epoch."""
        return len(self.batches)

    def __iter__(self) -> Iterator[Span]:
        """Yield the spans that Lightning has not counted yet, even if the server is ahead of them."""
        length, batches = self.batches.steps_per_chunk, self.batches
        epoch = batches.next_step() // batches.plan.steps_per_epoch
        first, until = epoch * batches.plan.steps_per_epoch, batches.end_of(epoch)
        for start in range(first + length * self.chunks_done(), until, length):
            yield Span(stop=min(start + length, until), until=until)


class AsyncClassifier(Classifier):
    """A classifier trained by a parameter server that gives out batches and applies gradients.

    The batch of a step has `data.total_batch_size` images, all on one worker. Workers wait for each other
    only at the end of an epoch. Worker 0 starts the server with its own optimizer (in a resumed run, the
    checkpoint's) and opens one epoch at a time. Only worker 0 evaluates, saves and records. Before it does,
    every batch that was given out has been stepped, and `trainer.global_step` equals the server's version.
    """

    def __init__(self, *, worker: int, workers: int, max_staleness: int | None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.index, self.workers, self.max_staleness = worker, workers, max_staleness
        self.counts = Counts()
        self.batches: TrainBatches
        """Set by `loader`, before the fit."""
        self.worker: AsyncWorker
        self._has_joined = False
        """Whether the server was joined; it never is in a run resumed after its last step."""
        self._state_version = -1

    def first_callbacks(self) -> list[pl.Callback]:
        """Return the callback that joins the server before the recorder's clock starts."""
        return [JoinServer()]

    def loader(self, batches: TrainBatches) -> AsyncBatches:
        """Return the spans of steps; the server gives out the numbers of their batches."""
        self.batches = batches
        return AsyncBatches(batches, lambda: chunks_begun_in_epoch(self.trainer))

    def join(self) -> None:
        """Start the server or find it; worker 0 waits for the others."""
        connect(os.environ[ADDRESS])
        optimizer, name = self.schedule_adapter.optimizer, os.environ[SERVER]
        assert self.progress.schedule is not None
        if self.index == 0:
            version = self.trainer.global_step
            serve(
                optimizer,
                name,
                build_schedule=partial(
                    _build_schedule, schedule=self.progress.schedule, total_steps=self.progress.total_steps
                ),
                version=version,
                max_staleness=self.max_staleness,
                until=version,
                counts=self.counts,
            )
        self.worker = AsyncWorker(served_parameters(optimizer), self.index, name)
        self._has_joined = True
        self.worker.take()
        while self.index == 0 and self.worker.call("awaited", self.workers):
            self.worker.take()

    def training_step(self, span: Span, batch_idx: int) -> None:  # type: ignore[override]
        """Work until the server has taken all steps of the span."""
        if self.index == 0:
            self.worker.call("open", span.until)
        self._work(span.stop)

    def synchronize(self) -> None:
        """Wait for unfinished batches; copy the server's parameters, optimizer state and number of steps."""
        if not self._has_joined:
            return
        self._work(self.worker.call("close"))
        if self._state_version != self.worker.version:
            self.schedule_adapter.optimizer.load_state_dict(self.worker.call("optimizer_state"))
            self._state_version = self.worker.version

    def on_train_end(self) -> None:
        """Release the other workers, also after early stopping."""
        if self.index == 0:
            self.worker.call("finish")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the server's counts as well."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["exchange"] = dataclasses.asdict(self.counts)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the server's counts."""
        super().on_load_checkpoint(checkpoint)
        self.counts = Counts(**checkpoint["exchange"])

    @property
    def exchange(self) -> dict[str, Any]:
        """Entries of the record about the exchange; bytes are counted as for `trainer.method=ps_sync`."""
        counts, steps = self.counts, max(1, self.counts.steps)
        return {
            "sent_bytes_per_step": counts.sent_bytes / steps,
            "received_bytes_per_step": counts.received_bytes / steps,
            "staleness_mean": counts.staleness_mean,
            "staleness_max": max(counts.staleness, default=0),
            "staleness": {str(late): count for late, count in sorted(counts.staleness.items())},
            "dropped": counts.dropped,
            "steps_of_workers": {str(rank): steps for rank, steps in sorted(counts.steps_of_workers.items())},
            "lost_workers": counts.lost,
        }

    def _work(self, version: int) -> None:
        """Take batches and send their gradients until the server is at `version`."""
        while self.worker.version < version:
            if self.worker.instruction == "work":
                self._send_gradients(self.worker.batch)
            elif self.worker.take() == "finished":
                raise NoMoreBatches
        set_steps_done(self.trainer, self.worker.version)
        self.progress.steps_done = self.worker.version
        if self.index == 0:
            self._fetch_measured()

    def _send_gradients(self, batch: int) -> None:
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        backward, _ = steps_of(self, optimizer)
        chunk: Chunk = self.trainer.strategy.batch_to_device(self.batches.chunk(batch, 1))
        losses, outputs = self._evaluate(batch, self._micro_batches(chunk, batch), backward)
        self.on_before_optimizer_step(optimizer.optimizer)
        gradients = [
            torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            for parameter in self.worker.parameters
        ]
        right = hits(torch.cat(outputs), chunk.labels)
        self.worker.exchange(gradients, (float(torch.stack(losses).mean()), float(right.float().mean())))
        for parameter in self._trained:
            parameter.grad = None

    def _fetch_measured(self) -> None:
        """Fetch the losses of all workers' steps, in the order in which the server took them."""
        measured = self.worker.call("fetch_measured")
        self.counts = self.worker.counts()
        if measured:
            losses, accuracies = torch.tensor([values for _, values in measured]).unbind(1)
            self.progress.window.add(measured[0][0], losses, accuracies)
            self.progress.evaluations += len(measured)


class JoinServer(pl.Callback):
    """Joins the server before any clock starts."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Wait for the server and the other workers."""
        assert isinstance(pl_module, AsyncClassifier)
        pl_module.join()


def _build_schedule(optimizer: torch.optim.Optimizer, *, schedule: Schedule, total_steps: int) -> SetSchedule:
    return ScheduleAdapter(optimizer, schedule, total_steps).apply
