"""Build Lightning's trainer for conf/trainer: devices, strategy, precision and loggers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.loggers.logger import DummyLogger
from pytorch_lightning.plugins.precision import DoublePrecision

from tempo.config.hydra_targets import instantiated
from tempo.config.schema import RunConfig
from tempo.data.batches import BatchPlan
from tempo.distributed.fsdp2 import ShardedStrategy
from tempo.distributed.gradient_exchange import SyncServerExchange
from tempo.distributed.process_group import cluster_environment, position
from tempo.distributed.ps_sync import ServerSettings, SyncServerStrategy
from tempo.distributed.ring import RingStrategy
from tempo.errors import UserError
from tempo.run.build_data import total_steps
from tempo.task.classifier import Classifier
from tempo.trainer import trackers
from tempo.trainer.checkpoint_file import CheckpointFiles
from tempo.trainer.loggers import TensorBoardLog, keep_failures_from_run
from tempo.trainer.malloc_settings import keep_freed_memory
from tempo.trainer.process_settings import set_numerics


def check_devices(config: RunConfig) -> None:
    """Raise UserError if the configured devices are not on this machine; called before data is read."""
    trainer = config.trainer
    accelerator, devices = trainer.accelerator, trainer.devices
    counts = {"gpu": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if accelerator in counts and counts[accelerator] < devices:
        raise UserError(
            f"trainer.accelerator={accelerator} trainer.devices={devices}, but this machine has "
            f"{counts[accelerator]}; use trainer=cpu, or trainer=ddp_cpu for several processes"
        )
    if trainer.cuda_graph is True and not counts["gpu"]:
        raise UserError(
            "trainer.cuda_graph=true needs an NVIDIA GPU, but this machine has 0; set trainer.cuda_graph=auto"
        )
    if trainer.backend == "nccl" and not counts["gpu"]:
        raise UserError(
            "trainer.backend=nccl needs NVIDIA GPUs, but this machine has 0; set trainer.backend=gloo"
        )
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not any(counts.values()))
    if on_cpu and trainer.precision == "16-mixed":
        raise UserError("trainer.precision=16-mixed needs a GPU; on a CPU, set trainer.precision=bf16-mixed")


def build_loggers(
    config: RunConfig, folder: Path, steps_done: int | None, rank: int, run_id: str = ""
) -> list[Logger]:
    """Build TensorBoard's logger and those of conf/logger; `steps_done` is None in a new run.

    On other ranks than 0 they are none, or one that writes nothing if a callback may ask for a logger.
    """
    if rank != 0:
        return [DummyLogger()] if config.callbacks else []
    loggers: list[Logger] = [TensorBoardLog(folder, steps_done)]
    for name, node in config.loggers.items():
        of_run = {"folder": folder, "run_id": run_id, "tags": config.tags or []}
        own = node.target.startswith(f"{trackers.__name__}.")
        built = instantiated("logger", node.node, **(of_run if own else {}))
        loggers.append(keep_failures_from_run(built, name))
    return loggers


def build_trainer(
    config: RunConfig,
    folder: Path,
    plan: BatchPlan,
    callbacks: list[pl.Callback],
    loggers: list[Logger],
    module: pl.LightningModule,
    *,
    validates: bool = True,
) -> pl.Trainer:
    """Build the trainer of a module, with the features that tempo replaces switched off.

    It also sets numerics for the whole process and, on a CPU, keeps freed memory (`keep_freed_memory`).
    """
    node = config.trainer
    steps = total_steps(config, plan.steps_per_epoch)
    set_numerics(deterministic=node.deterministic, matmul_precision=node.matmul_precision)
    strategy = _strategy(config, module)
    # Lightning refuses this precision with a strategy of this kind, but accepts it as a plugin.
    double = node.precision == "64-true" and isinstance(strategy, ShardedStrategy)
    is_own = not isinstance(module, Classifier)
    automatic = is_own and module.automatic_optimization
    arguments: dict[str, Any] = dict(
        accelerator=node.accelerator,
        devices=_devices(config),
        num_nodes=node.num_nodes,
        strategy=strategy,
        precision=None if double else node.precision,
        # Not max_steps: with it Lightning resumes at the end of an epoch as if in the middle of one. The
        # loader ends the last epoch at the last step.
        max_epochs=-(-steps // plan.steps_per_epoch),
        check_val_every_n_epoch=node.val_every_n_epochs,
        limit_val_batches=None if validates else 0,
        num_sanity_val_steps=0,
        deterministic=node.deterministic,
        profiler=node.profiler,
        callbacks=callbacks,
        plugins=[CheckpointFiles(), cluster_environment(), *([DoublePrecision()] if double else [])],
        logger=loggers,
        accumulate_grad_batches=plan.accumulate if automatic else 1,
        gradient_clip_val=node.gradient_clip if automatic else None,
        # One call of a classifier's training_step takes several steps, and the recorder decides when to write
        # rows. What another module logs goes straight to the loggers.
        log_every_n_steps=node.log_every_n_steps if is_own else 1,
        default_root_dir=folder,
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **(node.flags or {}),
    )
    try:
        trainer = pl.Trainer(**arguments)
    except (MisconfigurationException, TypeError, ValueError, RuntimeError) as error:
        if not node.flags and not config.callbacks:
            raise
        what = "trainer.flags" if node.flags else "callbacks"
        raise UserError(f"{what}: Lightning refuses it: {error}; change it, or set {what}=null") from error
    if trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()
    return trainer


def _devices(config: RunConfig) -> int | list[int]:
    node, here = config.trainer, position()
    if not node.exchange.is_asynchronous:
        return node.devices
    return 1 if node.accelerator == "cpu" or here is None else [here.rank]  # each worker trains alone


def _strategy(config: RunConfig, module: pl.LightningModule) -> Any:
    node = config.trainer
    exchange = node.exchange
    if exchange.processes == 1 or exchange.is_asynchronous:
        return "auto"
    if node.shard:
        return ShardedStrategy(
            processes=exchange.processes, compress=node.compress, process_group_backend=node.backend
        )
    arguments: dict[str, Any] = {"process_group_backend": node.backend, "compress": node.compress}
    if isinstance(exchange, SyncServerExchange):
        server = config.server
        servers = ServerSettings(count=server.count, placement=server.placement, reply=server.reply)
        return SyncServerStrategy(servers=servers, **arguments)
    # Under manual optimization a step may train a part of the module only, as that of a GAN does.
    unused = not isinstance(module, Classifier) and not module.automatic_optimization
    return RingStrategy(**arguments, find_unused_parameters=unused)
