"""The module that Lightning trains: several optimizer steps per call, each with the schedule's values."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from itertools import islice
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from tempo.data.augment import LowResolution, Preprocess
from tempo.data.batches import Chunk, TrainBatches
from tempo.data.label_sets import hits
from tempo.data.random_seeds import mixed_seed
from tempo.data.transforms import MixImages
from tempo.distributed.collectives import mean_over_ranks
from tempo.errors import UserError
from tempo.optimizer.capabilities import traits_of_class
from tempo.scheduler.apply_to_optimizer import ScheduleAdapter
from tempo.task.cuda_graph import MicroBatches, StepGraph, parts_of, why_not_recorded
from tempo.task.ema_weights import moving_average, optimizers_average, take_average
from tempo.task.evaluation import EvaluationSums
from tempo.task.losses import Loss
from tempo.task.optimizer_closure import StepClosure
from tempo.task.progress import Progress
from tempo.task.rank_buffers import average_buffers, load_buffers, save_buffers
from tempo.task.stepping import Backward, goes_straight_to_torch, steps_of, stop_asking_for_gpus

log = logging.getLogger(__name__)

_NOTHING = nullcontext()
_MIXING = 1
"""Stream of random numbers of mixed images: other seeds of a run have three numbers."""


class Classifier(pl.LightningModule):
    """A network, its optimizer and its schedule.

    `training_step` gets a `Chunk`, the images of several optimizer steps, because Lightning's overhead per
    call exceeds the step of a small network. This requires Lightning's manual optimization;
    `trainer.global_step` still counts optimizer steps. Losses and hits stay on the device until
    `progress.window.flush` is called. `progress.schedule` must not be None.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        build_optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        progress: Progress,
        train_preprocess: Preprocess,
        eval_preprocess: Preprocess,
        loss: Loss,
        sums: EvaluationSums,
        gradient_clip: float | None = None,
        ema_decay: float | None = None,
        ema_warmup: bool = True,
        optimizer_averages: bool = False,
        cuda_graph: Literal["auto"] | bool = False,
        mix: MixImages | None = None,
        low_resolution: LowResolution | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network = network
        self.averaged = None if ema_decay is None else moving_average(network, ema_decay, ema_warmup)
        self.optimizer_averages = optimizer_averages
        if optimizer_averages:
            self.averaged = optimizers_average(network)
        self.build_optimizer = build_optimizer
        self.progress = progress
        progress.before_saving = self.synchronize
        self.plan = progress.plan
        self.train_preprocess = train_preprocess
        self.eval_preprocess = eval_preprocess
        self.loss = loss
        self.gradient_clip = gradient_clip
        self.cuda_graph = cuda_graph
        self.mix = mix
        self.low_resolution = low_resolution
        self._graph: StepGraph | None = None
        self._logged_reason = False
        self.sums = sums

    @property
    def parameter_count(self) -> int:
        """Number of parameters of the network."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    @property
    def tested_network(self) -> nn.Module:
        """The network that is validated and tested: the averaged one if there is one."""
        return self.network if self.averaged is None else self.averaged.module

    def first_callbacks(self) -> list[pl.Callback]:
        """Return callbacks that must run before all others in the trainer."""
        return []

    def loader(self, batches: TrainBatches) -> Iterable[Any]:
        """Return the iterable for the trainer: an epoch's chunks of steps."""
        return batches

    def setup(self, stage: str) -> None:
        """Adapt to the device."""
        kind = self.trainer.strategy.root_device.type
        if kind == "cpu":
            stop_asking_for_gpus()
        if kind != "mps":  # Apple's GPUs have no float64
            self.sums.use_float64()

    def configure_model(self) -> None:
        """Split the networks over processes if the strategy does so; called before each fit and test."""
        shard = getattr(self.trainer.strategy, "shard", None)
        if shard is not None:
            shard(self.network)
            if self.averaged is not None:
                shard(self.averaged.module)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the running statistics of each rank."""
        save_buffers(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the running statistics; the module's state has only those of rank 0."""
        load_buffers(self, checkpoint)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Build the optimizer of conf/optimizer over the network's parameters."""
        optimizer = self.build_optimizer(self.network)
        assert self.progress.schedule is not None
        self.schedule_adapter = ScheduleAdapter(optimizer, self.progress.schedule, self.progress.total_steps)
        self.needs_closure = traits_of_class(type(optimizer)).needs_closure
        self._trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if self.optimizer_averages:
            optimizer.train()  # type: ignore[attr-defined]
        return optimizer

    def synchronize(self) -> None:
        """Bring `tested_network` up to date before it is evaluated or saved."""
        if self.averaged is not None and self.optimizer_averages:
            take_average(self.averaged, self.network, self.schedule_adapter.optimizer)

    def training_step(self, chunk: Chunk, batch_idx: int) -> None:
        """Take `chunk.steps` optimizer steps, each over `plan.accumulate` micro-batches."""
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        backward, take_step = steps_of(self, optimizer)
        first_step, parts = self.trainer.global_step, self.plan.accumulate
        micro_batches = iter(self._micro_batches(chunk, first_step))
        losses: list[Tensor] = []
        outputs: list[Tensor] = []
        evaluations = self.progress.evaluations
        averaged = None if self.optimizer_averages else self.averaged
        recorded = self.device.type == "cuda" and self._is_recorded(optimizer.optimizer)
        if self._graph is not None and self._graph.made_of != parts_of(self.network):
            self._graph = None  # a callback has changed the network, so a new graph must be recorded
        for step in range(first_step, first_step + chunk.steps):
            batch = list(islice(micro_batches, parts))
            self.schedule_adapter.apply(step)
            if self.needs_closure:
                evaluate = partial(self._evaluate, step, batch, backward)
                mean = partial(mean_over_ranks, self.trainer.strategy)
                closure = StepClosure(optimizer.optimizer, evaluate, mean)
                optimizer.step(closure)
                of_step = closure.losses, closure.outputs
                evaluations += closure.evaluations
            else:
                of_step = self._replay(step, batch) if recorded else self._evaluate(step, batch, backward)
                take_step()
                evaluations += 1
            for parameter in self._trained:  # as `zero_grad` does, without its overhead
                parameter.grad = None
            losses += of_step[0]
            outputs += of_step[1]
            if averaged is not None:
                averaged.update_parameters(self.network)
        self.progress.evaluations = evaluations
        self.progress.steps_done = first_step + chunk.steps
        right = hits(torch.cat(outputs), chunk.labels)
        self.progress.window.add(
            first_step,
            torch.stack(losses).float().view(chunk.steps, parts).mean(1),
            right.view(chunk.steps, -1).float().mean(1),
        )

    def _micro_batches(self, chunk: Chunk, first_step: int) -> MicroBatches:
        size = self.plan.per_device
        images = self.train_preprocess(chunk.images, chunk.draws).to(self.dtype)
        parts = list(images.split(size))
        if self.low_resolution is not None:
            parts = [
                self.low_resolution(part, first_step + number // self.plan.accumulate)
                for number, part in enumerate(parts)
            ]
        pairs = list(zip(parts, chunk.labels.split(size), strict=True))
        return pairs if self.mix is None else self._mixed(pairs, first_step * self.plan.accumulate)

    def _mixed(self, pairs: MicroBatches, first: int) -> MicroBatches:
        """Mix each micro-batch; what is drawn depends on its number in the run."""
        assert self.mix is not None
        seeds = (mixed_seed(self.plan.seed, self.plan.rank, _MIXING, first + n) for n in range(len(pairs)))
        mixed = [self.mix(*pair, seed) for pair, seed in zip(pairs, seeds, strict=True)]
        return [(images, shares.to(self.dtype)) for images, shares in mixed]

    def _evaluate(
        self, step: int, batch: MicroBatches, backward: Backward, differentiate: bool = True
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return losses and outputs of the micro-batches; if `differentiate`, put the gradient in `.grad`."""
        self._seed_generator(step)
        return self._pass_over(batch, backward, differentiate)

    def _pass_over(
        self, batch: MicroBatches, backward: Backward, differentiate: bool
    ) -> tuple[list[Tensor], list[Tensor]]:
        losses, outputs = [], []
        for part, (inputs, labels) in enumerate(batch):
            with self._no_gradient_exchange() if part < len(batch) - 1 else _NOTHING:
                logits = self.network(inputs)
                loss = self.loss(logits, labels)
                if differentiate:
                    backward(loss if len(batch) == 1 else loss / len(batch))
                    loss, logits = loss.detach(), logits.detach()
            losses.append(loss)
            outputs.append(logits)
        return losses, outputs

    def _is_recorded(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether steps are recorded as a CUDA graph; if `auto` does not, the reason is logged once."""
        straight = goes_straight_to_torch(self.trainer) and not self.needs_closure
        reason = why_not_recorded(
            self.cuda_graph, self.network, optimizer, straight=straight, others=self.loss.modules()
        )
        if reason and self.cuda_graph == "auto" and not self._logged_reason:
            log.info("trainer.cuda_graph=auto trains step by step: %s", reason)
            self._logged_reason = True
        return not reason

    def _replay(self, step: int, batch: MicroBatches) -> tuple[list[Tensor], list[Tensor]]:
        """Do the same as `_evaluate` with a graph, which the first call records."""
        if self._graph is not None and not self._graph.takes(batch):
            self._graph = None  # images have another size from here on
        if self._graph is None and self.cuda_graph:
            passes = partial(self._pass_over, backward=Tensor.backward, differentiate=True)
            try:
                self._graph = StepGraph(self.network, passes, partial(self._seed_generator, step), batch)
            except (UserError, torch.OutOfMemoryError) as error:
                if self.cuda_graph != "auto":
                    raise
                log.warning("CUDA graph disabled, training step by step: %s", str(error).splitlines()[0])
                self.cuda_graph = False
        if self._graph is None:
            return self._evaluate(step, batch, Tensor.backward)
        self._seed_generator(step)
        return self._graph(batch)

    def on_fit_end(self) -> None:
        """Free the memory of the graph."""
        self._graph = None

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip gradients; by now a loss scaler has restored their true size."""
        if self.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.gradient_clip)

    def _seed_generator(self, step: int) -> None:
        # Random numbers inside the network depend only on the step, so a resumed run draws the same ones, and
        # a closure computes the same function each time.
        seed = mixed_seed(self.plan.seed, self.plan.rank, step)
        # torch.manual_seed visits every kind of device and takes longer than the step of a small network.
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        else:
            torch.default_generator.manual_seed(seed)

    def _no_gradient_exchange(self) -> Any:
        strategy = self.trainer.strategy
        block = getattr(strategy, "block_backward_sync", None)
        return _NOTHING if block is None else block()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Add one batch to the sums of loss and hits; several loaders count as one set."""
        images, labels = batch
        logits = self.tested_network(self.eval_preprocess(images).to(self.dtype)).float()
        self.sums.add(logits, labels, self.loss, images)

    test_step = validation_step

    def on_validation_epoch_start(self) -> None:
        """Prepare to evaluate the current weights."""
        self.synchronize()
        self.on_test_epoch_start()

    def on_test_epoch_start(self) -> None:
        """Average the running statistics over the ranks, since each has seen different images."""
        average_buffers(self)

    def on_validation_epoch_end(self) -> None:
        """Finish the sums; callbacks read them as `val/loss` and `val/accuracy`."""
        self._close_evaluation("val")

    def on_test_epoch_end(self) -> None:
        """Finish the sums; callbacks read them as `test/loss` and `test/accuracy`."""
        self._close_evaluation("test")

    def _close_evaluation(self, split: str) -> None:
        found = self.sums.close()
        self.progress.items_evaluated = self.sums.items
        self.progress.evaluated = found
        for name, value in found.items():
            self.log(f"{split}/{name}", value, logger=False, rank_zero_only=True)
