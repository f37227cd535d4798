"""Training through the asynchronous parameter server: what a worker does between two looks of the trainer."""

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
from tempo.distributed.ps_async_ray import ADDRESS, SERVER, AsyncWorker, connect, serve
from tempo.distributed.ps_async_server import Counts, SetSchedule, served_parameters
from tempo.scheduler.adapter import ScheduleAdapter
from tempo.scheduler.schedule import Schedule
from tempo.task.classifier import Classifier
from tempo.task.lightning_internals import chunks_begun_in_epoch, set_steps_done
from tempo.task.stepping import steps_of


class Span(NamedTuple):
    """Train until the server has taken `stop` steps; batches below `until` may be given out by then."""

    stop: int
    until: int


class Over(Exception):  # noqa: N818 - an end, not an error
    """Ends the training of a worker that the server has no more work for."""


class AsyncBatches:
    """An epoch of spans, cut where `TrainBatches` would cut its chunks; `chunks_done` of them are over."""

    def __init__(self, batches: TrainBatches, chunks_done: Callable[[], int]) -> None:
        self.batches = batches
        self.chunks_done = chunks_done

    def __len__(self) -> int:
        """Spans in a whole epoch."""
        return len(self.batches)

    def __iter__(self) -> Iterator[Span]:
        """The server may be ahead of the spans: those that it has passed are still there to be counted."""
        each, batches = self.batches.steps_per_chunk, self.batches
        epoch = batches.next_step() // batches.plan.steps_per_epoch
        first, until = epoch * batches.plan.steps_per_epoch, batches.end_of(epoch)
        for start in range(first + each * self.chunks_done(), until, each):
            yield Span(stop=min(start + each, until), until=until)


class AsyncClassifier(Classifier):
    """A classifier whose gradients are stepped by the server, and whose batches are given out there.

    A step's batch is of `data.total_batch_size` images, one worker's. Between two ends of epochs workers do
    not wait for each other. Worker 0 starts the server with its optimizer as it stands, in a resumed run that
    of the checkpoint, gives out one epoch at a time, and alone evaluates, saves and records. Where it does,
    every batch that was given out has been stepped: `trainer.global_step` is the server's version.
    """

    def __init__(self, *, worker: int, workers: int, max_staleness: int | None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.index, self.workers, self.max_staleness = worker, workers, max_staleness
        self.counts = Counts()
        self.batches: TrainBatches
        """Set before the fit."""
        self.worker: AsyncWorker
        self._begun = False
        """False as well in a run that is resumed after its last step."""
        self._state_version = -1

    def first_callbacks(self) -> list[pl.Callback]:
        """Start the exchange before the recorder's clock runs."""
        return [Beginning()]

    def loader(self, batches: TrainBatches) -> AsyncBatches:
        """Return spans of steps; their batches are taken from the server."""
        self.batches = batches
        return AsyncBatches(batches, lambda: chunks_begun_in_epoch(self.trainer))

    def begin(self) -> None:
        """Start the server, or find it; worker 0 waits until all are there, and no clock runs yet."""
        connect(os.environ[ADDRESS])
        optimizer, name = self.pace.optimizer, os.environ[SERVER]
        if self.index == 0:
            build_schedule = partial(_build_schedule, schedule=self.schedule, total_steps=self.total_steps)
            version = self.trainer.global_step
            serve(
                optimizer,
                name,
                build_schedule=build_schedule,
                version=version,
                max_staleness=self.max_staleness,
                until=version,
                counts=self.counts,
            )
        self.worker = AsyncWorker(served_parameters(optimizer), self.index, name)
        self._begun = True
        self.worker.take()
        while self.index == 0 and self.worker.call("awaited", self.workers):
            self.worker.take()

    def training_step(self, span: Span, batch_idx: int) -> None:  # type: ignore[override]
        """Work until the server has come to the end of the span."""
        if self.index == 0:
            self.worker.call("open", span.until)
        self._work(span.stop)

    def settle(self) -> None:
        """Bring in what is out, so that parameters, optimizer and number of steps here are the server's."""
        if not self._begun:
            return
        self._work(self.worker.call("close"))
        if self._state_version != self.worker.version:
            self.pace.optimizer.load_state_dict(self.worker.call("optimizer_state"))
            self._state_version = self.worker.version

    def on_train_end(self) -> None:
        """Let the other workers go, also those that early stopping comes as a surprise to."""
        if self.index == 0:
            self.worker.call("finish")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what went through the server so far as well."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["exchange"] = dataclasses.asdict(self.counts)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Inverse of `on_save_checkpoint`."""
        super().on_load_checkpoint(checkpoint)
        self.counts = Counts(**checkpoint["exchange"])

    @property
    def exchange(self) -> dict[str, Any]:
        """What the record says of the server, bytes as of `trainer.method=ps_sync`."""
        counts, steps = self.counts, max(1, self.counts.steps)
        return {
            "sent_bytes_per_step": counts.sent_bytes / steps,
            "received_bytes_per_step": counts.received_bytes / steps,
            "staleness_mean": counts.staleness_mean,
            "staleness_max": max(counts.staleness, default=0),
            "staleness": {str(late): count for late, count in sorted(counts.staleness.items())},
            "dropped": counts.dropped,
            "steps_of_workers": {str(each): n for each, n in sorted(counts.steps_of_workers.items())},
            "lost_workers": counts.lost,
        }

    def _work(self, version: int) -> None:
        """Take batches and send their gradients until the server is at `version`."""
        while self.worker.version < version:
            if self.worker.instruction == "work":
                self._send_gradients(self.worker.batch)
            elif self.worker.take() == "finished":
                raise Over
        set_steps_done(self.trainer, self.worker.version)
        if self.index == 0:
            self._fetch_measured()

    def _send_gradients(self, batch: int) -> None:
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        backward, _ = steps_of(self, optimizer)
        chunk: Chunk = self.trainer.strategy.batch_to_device(self.batches.chunk(batch, 1))
        images = self.train_preprocess(chunk.images, chunk.draws).to(self.dtype)
        size = self.plan.per_device
        parts = list(zip(images.split(size), chunk.labels.split(size), strict=True))
        losses, outputs = self._evaluate(batch, parts, backward, True)
        self.on_before_optimizer_step(optimizer.optimizer)
        gradients = [
            torch.zeros_like(each) if each.grad is None else each.grad for each in self.worker.parameters
        ]
        hits = torch.cat(outputs).argmax(1).eq(chunk.labels)
        self.worker.exchange(gradients, (float(torch.stack(losses).mean()), float(hits.float().mean())))
        for parameter in self._trained:
            parameter.grad = None

    def _fetch_measured(self) -> None:
        """The losses of all workers' steps, in the order in which the server took them."""
        measured = self.worker.call("fetch_measured")
        self.counts = self.worker.counts()
        if measured:
            losses, accuracies = torch.tensor([values for _, values in measured]).unbind(1)
            self.window.add(first_step=measured[0][0], losses=losses, accuracies=accuracies)
            self.evaluations += len(measured)


class Beginning(pl.Callback):
    """Begins the exchange before any clock runs."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Meet the server and the other workers."""
        assert isinstance(pl_module, AsyncClassifier)
        pl_module.begin()


def _build_schedule(optimizer: torch.optim.Optimizer, *, schedule: Schedule, total_steps: int) -> SetSchedule:
    return ScheduleAdapter(optimizer, schedule, total_steps).apply
