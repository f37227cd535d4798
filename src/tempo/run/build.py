"""From a checked configuration to the objects of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.precision import DoublePrecision

from tempo.config.check import Config, source_keys
from tempo.config.instantiate import instantiated
from tempo.config.parallel_rules import fused_for_parts
from tempo.data.augment import Augment, Preprocess, normalization
from tempo.data.batches import BatchPlan, EvalBatches, TrainBatches
from tempo.data.images import ImageData
from tempo.data.split import split, stratified
from tempo.distributed.fsdp2 import ShardedStrategy
from tempo.distributed.process_group import cluster_environment, is_asynchronous, place
from tempo.distributed.ps_sync import ServerSettings, SyncServerStrategy
from tempo.distributed.ring import RingStrategy
from tempo.errors import UserError
from tempo.optimizer.build import build_optimizer
from tempo.optimizer.traits import traits_of
from tempo.run.networks import build_network
from tempo.scheduler.build import schedule_of
from tempo.task.async_classifier import AsyncBatches, AsyncClassifier
from tempo.task.classifier import Classifier
from tempo.task.lightning_internals import chunks_begun_in_epoch
from tempo.trainer.checkpoint_file import CheckpointFiles
from tempo.trainer.event_log import EventLog
from tempo.trainer.freed_memory import keep_freed_memory
from tempo.trainer.numerics import set_numerics

# A chunk of steps is one call of Lightning's loop and one tensor of preprocessed images. It is as long as
# makes the call cheap beside the steps, and short enough for the tensor to stay small and for a signal to be
# heard soon: parameters x images is a poor measure of a step's work, but it tells an MLP from a ResNet.
_CHUNK_STEPS, _CHUNK_VALUES, _CHUNK_WORK = 64, 1 << 22, 250_000_000
_OF_A_GPU = 32
"""So many times the values and the work: a GPU must not wait for Python between two short chunks."""


@dataclass
class Data:
    """The three sets of a run; `sha256` is that of the official training and test images together."""

    train: ImageData
    val: ImageData | None
    test: ImageData
    sha256: str

    @property
    def sizes(self) -> dict[str, int]:
        """Images in each."""
        return {"train": len(self.train), "val": len(self.val) if self.val else 0, "test": len(self.test)}


def check_devices(config: Config) -> None:
    """Refuse more devices than there are, before data is read.

    Raises:
        UserError: the accelerator is not there, or has fewer devices.
    """
    accelerator, devices = config["trainer"]["accelerator"], config["trainer"]["devices"]
    counts = {"gpu": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if accelerator in counts and counts[accelerator] < devices:
        raise UserError(
            f"trainer.accelerator={accelerator} with trainer.devices={devices}: this machine has "
            f"{counts[accelerator]}; trainer=cpu, or trainer=ddp_cpu for several processes"
        )
    if config["trainer"].get("cuda_graph") is True and not counts["gpu"]:
        raise UserError(
            "trainer.cuda_graph=true needs an NVIDIA GPU, this machine has 0: trainer.cuda_graph=auto"
        )
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not any(counts.values()))
    if config["trainer"]["backend"] == "nccl" and not counts["gpu"]:
        raise UserError("trainer.backend=nccl needs NVIDIA GPUs, this machine has 0: trainer.backend=gloo")
    if on_cpu and config["trainer"]["precision"] == "16-mixed":
        raise UserError("trainer.precision=16-mixed needs a GPU: on a CPU, trainer.precision=bf16-mixed")


def build_data(config: Config) -> Data:
    """Read the source, then cut validation from its training images."""
    node = config["data"]
    train, test = instantiated("data", source_keys(node))
    if len(train.classes) < 2:
        raise UserError(
            f"data: {train.name} has the one class {', '.join(train.classes)!r}, nothing to tell apart: "
            "another data=<option of conf/data>, or a folder for each class"
        )
    Augment(**node["augment"]).check_fits(*train.shape[1:])
    sha256 = f"{train.sha256()[:32]}{test.sha256()[:32]}"
    kept, val = split(
        train, val_size=node["val_size"], train_size=node["train_size"], split_seed=node["split_seed"]
    )
    limit = config["trainer"]["limit_train_steps"]
    if limit is not None:
        kept = _some(kept, limit * node["total_batch_size"], node["split_seed"])
    limit = config["trainer"]["limit_eval_batches"]
    if limit is not None:
        images = limit * node["eval_batch_size"]
        val = _some(val, images, node["split_seed"]) if val else None
        test = _some(test, images, node["split_seed"])
    return Data(kept, val, test, sha256)


def check_every_rank_has_images(data: Data, world_size: int) -> None:
    """UserError where a set has fewer images than there are processes."""
    for name, size in data.sizes.items():
        if 0 < size < world_size:
            key = "data.val_size" if name == "val" else "trainer.devices"
            raise UserError(
                f"the {name} set has {size} images for {world_size} processes: each needs one; "
                f"{key}={world_size if name == 'val' else size}"
            )


def build_plan(config: Config, train_images: int, world_size: int, rank: int) -> BatchPlan:
    """Which images each step of each rank sees; a step of the asynchronous server is one worker's alone."""
    if is_asynchronous(config["trainer"]):
        world_size, rank = 1, 0
    return BatchPlan(
        n=train_images,
        total_batch_size=config["data"]["total_batch_size"],
        seed=config["seed"],
        world_size=world_size,
        rank=rank,
        accumulate=config["trainer"]["accumulate"],
    )


def total_steps(config: Config, steps_per_epoch: int) -> int:
    """Optimizer steps of the whole run."""
    steps = config["trainer"]["max_steps"]
    return int(steps) if steps is not None else int(config["trainer"]["epochs"]) * steps_per_epoch


def build_module(config: Config, data: Data, plan: BatchPlan) -> Classifier:
    """Network, optimizer, schedule and preprocessing in one Lightning module."""
    trainer = config["trainer"]
    if config["ema"]["decay"] is not None and trainer["precision"] == "bf16-true":
        raise UserError(
            "ema.decay with trainer.precision=bf16-true: steps of an average are too small for bf16; "
            "trainer.precision=bf16-mixed"
        )
    network = build_network(config, data.train.shape, len(data.train.classes))
    if trainer["channels_last"]:
        network = network.to(memory_format=torch.channels_last)
    if trainer["compile"]:
        torch.compiler.reset()  # a process keeps eight compiled networks, and runs the ninth uncompiled
        network.compile()  # in place: the names in the state dict stay as they are
    mean, std = normalization(config["data"]["normalize"], data.train.images)
    augment = Augment(**config["data"]["augment"])
    preprocess = partial(Preprocess, mean=mean, std=std, channels_last=trainer["channels_last"])
    classifier: Callable[..., Classifier] = Classifier
    if is_asynchronous(trainer) and (here := place()) is not None:
        bound = config["server"]["max_staleness"]
        classifier = partial(AsyncClassifier, worker=here.rank, workers=here.world_size, max_staleness=bound)
    return classifier(
        network=network,
        build_optimizer=partial(build_optimizer, settings=_optimizer_settings(config)),
        schedule=schedule_of(config),
        total_steps=total_steps(config, plan.steps_per_epoch),
        plan=plan,
        train_preprocess=preprocess(augment),
        eval_preprocess=preprocess(None),
        num_classes=len(data.train.classes),
        gradient_clip=trainer["gradient_clip"],
        ema_decay=config["ema"]["decay"],
        optimizer_averages=traits_of(config["optimizer"]["_target_"]).averages_weights,
        log_every_n_steps=trainer["log_every_n_steps"],
        cuda_graph=trainer.get("cuda_graph", False),  # a record of earlier times has no such key
    )


def build_train_batches(config: Config, data: Data, module: Classifier) -> TrainBatches | AsyncBatches:
    """Chunks of training steps, from wherever the trainer stands."""
    steps = config["trainer"]["steps_per_call"]
    if steps == "auto":
        images = module.plan.per_device * module.plan.accumulate
        values = images * math.prod(data.train.shape)
        work = images * sum(each.numel() for each in module.network.parameters())
        size = _OF_A_GPU if data.train.images.device.type == "cuda" else 1
        steps = max(1, min(_CHUNK_STEPS, size * _CHUNK_VALUES // values, size * _CHUNK_WORK // work))
    if config["checkpoint"]["every_n_steps"] is not None:
        steps = min(steps, config["checkpoint"]["every_n_steps"])
    batches = TrainBatches(
        data=data.train,
        plan=module.plan,
        augment=Augment(**config["data"]["augment"]),
        steps_per_chunk=steps,
        next_step=lambda: module.trainer.global_step,
        last_step=module.total_steps,
    )
    if not isinstance(module, AsyncClassifier):
        return batches
    module.batches = batches
    return AsyncBatches(batches, lambda: chunks_begun_in_epoch(module.trainer))


def build_eval_batches(config: Config, data: ImageData, plan: BatchPlan) -> EvalBatches:
    """Every image once over all ranks."""
    size = config["data"]["eval_batch_size"]
    return EvalBatches(data=data, batch_size=size, world_size=plan.world_size, rank=plan.rank)


def build_loggers(config: Config, folder: Path, steps_done: int | None) -> list[Logger]:
    """TensorBoard always, and the one that conf/logger names; `steps_done` of a run that is resumed."""
    loggers: list[Logger] = [EventLog(folder, steps_done)]
    node = config.get("logger")
    if isinstance(node, Mapping) and "_target_" in node:
        loggers.append(instantiated("logger", node))
    return loggers


def build_trainer(
    config: Config, folder: Path, plan: BatchPlan, callbacks: list[pl.Callback], loggers: list[Logger]
) -> pl.Trainer:
    """Lightning's trainer for conf/trainer; what tempo does itself is switched off in it.

    Sets, for the whole process, numerics and, on a CPU, that memory is kept (`keep_freed_memory`).
    """
    node = config["trainer"]
    steps = total_steps(config, plan.steps_per_epoch)
    set_numerics(
        deterministic=node["deterministic"],
        matmul_precision=node.get("matmul_precision", "highest"),  # a record of earlier times has no such key
    )
    strategy = _strategy(config)
    # Lightning refuses this word beside a strategy that does the same once it has the plugin.
    double = node["precision"] == "64-true" and isinstance(strategy, ShardedStrategy)
    trainer = pl.Trainer(
        accelerator=node["accelerator"],
        devices=_devices(node),
        num_nodes=node["num_nodes"],
        strategy=strategy,
        precision=None if double else node["precision"],
        # Not max_steps: with it Lightning resumes the end of an epoch as if it were the middle of one. The
        # batches of the last epoch end with the last step.
        max_epochs=-(-steps // plan.steps_per_epoch),
        check_val_every_n_epoch=node["val_every_n_epochs"],
        num_sanity_val_steps=0,
        deterministic=node["deterministic"],
        profiler=node["profiler"],
        callbacks=callbacks,
        plugins=[CheckpointFiles(), cluster_environment(), *([DoublePrecision()] if double else [])],
        logger=loggers,
        # One call of training_step is several steps: rows are written by the recorder, by its own count.
        log_every_n_steps=1,
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    if trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()
    return trainer


def _devices(node: Mapping[str, Any]) -> int | list[int]:
    if not is_asynchronous(node):
        return int(node["devices"])
    here = place()
    return 1 if node["accelerator"] == "cpu" or here is None else [here.rank]


def _strategy(config: Config) -> Any:
    node = config["trainer"]
    if node["devices"] * node["num_nodes"] == 1 or is_asynchronous(node):
        return "auto"
    if node.get("shard"):
        processes = node["devices"] * node["num_nodes"]
        return ShardedStrategy(
            processes=processes, compress=node["compress"], process_group_backend=node["backend"]
        )
    arguments = {"process_group_backend": node["backend"], "compress": node.get("compress")}
    if node.get("method", "ring") == "ps_sync":
        server = {key: config["server"][key] for key in ("count", "placement", "reply")}
        return SyncServerStrategy(servers=ServerSettings(**server), **arguments)
    return RingStrategy(**arguments)


def _optimizer_settings(config: Config) -> dict[str, Any]:
    settings = dict(config["optimizer"])
    trainer = config["trainer"]
    if "fused" in settings and trainer["precision"] == "16-mixed" and trainer["gradient_clip"] is not None:
        # A fused optimizer takes the loss scale out itself, after gradients were clipped at the wrong size.
        settings["fused"] = False
    if "fused" in settings and trainer.get("shard"):
        settings["fused"] = fused_for_parts(settings)
    return settings


def _some(data: ImageData, images: int, split_seed: int) -> ImageData:
    if images >= len(data):
        return data
    return data.take(stratified(data.labels.cpu().numpy(), images, split_seed))


def on_best_device(data: ImageData, device: torch.device) -> ImageData:
    """Move images to the device that trains where they take less than half of its free memory."""
    if device.type != "cuda":
        return data
    free, _ = torch.cuda.mem_get_info(device)
    return data.to(device) if data.images.nbytes < free / 2 else data
