"""Rules for training in several processes: what trainer.method, server and trainer.shard need."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from tempo.config.schema import RunConfig
from tempo.errors import UserError
from tempo.optimizer.traits import traits_of


def check_exchange(config: RunConfig) -> None:
    """Refuse what a way of exchanging gradients cannot do.

    Raises:
        UserError: one line with the value, the reason and the override that mends it.
    """
    trainer, server = config.trainer, config.server
    method, processes = trainer.method, trainer.processes
    _staleness(server.max_staleness, method)
    if method == "ring":
        return
    if processes == 1:
        raise UserError(
            f"trainer.method={method} needs more than one process: trainer=ddp_cpu "
            "trainer.devices=2, or trainer.method=ring"
        )
    if method == "ps_async":
        _asynchronous(config)
        return
    if not 1 <= server.count <= processes:
        raise UserError(
            f"server.count={server.count} must be in [1, {processes}], the number of processes: "
            "server.count=1"
        )
    if server.reply == "parameters":
        _servers_step(config)


def _staleness(bound: int | None, method: str) -> None:
    if bound is None:
        return
    if bound < 0:
        raise UserError(f"server.max_staleness={bound} must be at least 0: e.g. server.max_staleness=4")
    if method != "ps_async":
        raise UserError(
            f"server.max_staleness={bound} is of trainer.method=ps_async alone, where gradients can be late: "
            "server.max_staleness=null"
        )


def _servers_step(config: RunConfig) -> None:
    """Of several servers each has its own variables and their optimizer's state, and nothing else."""
    trainer, server = config.trainer, config.server
    optimizer = traits_of(config.optimizer.target)
    why = None
    if server.placement == "sharded":
        why = "server.placement=sharded cuts variables in parts, which no optimizer steps alone"
    elif trainer.precision == "16-mixed":
        why = "trainer.precision=16-mixed scales the loss by what every process finds in its gradients"
    elif trainer.gradient_clip is not None and server.count > 1:
        why = "trainer.gradient_clip needs all gradients in one place"
    elif optimizer.needs_closure:
        why = "a line search needs the gradient in every process"
    elif optimizer.averages_weights:
        why = "every process evaluates the optimizer's average of the weights"
    elif optimizer.is_composed:
        why = "the states of this optimizer's two parts are not gathered from the servers"
    if why:
        raise UserError(f"{why}, and server.reply=parameters leaves each its own: server.reply=gradients")


def _asynchronous(config: RunConfig) -> None:
    """One server, a process of its own on this machine, steps for each worker's gradient."""
    trainer, server, decay = config.trainer, config.server, config.ema.decay
    for key, only in (("count", 1), ("placement", "by_size"), ("reply", "parameters")):
        if (value := getattr(server, key)) != only:
            raise UserError(
                f"server.{key}={value} is of trainer.method=ps_sync; with ps_async one process has all "
                f"parameters, steps and sends them: server.{key}={only}"
            )
    target = config.optimizer.target
    optimizer = traits_of(target)
    why = None
    if trainer.num_nodes > 1:
        why, mend = f"trainer.num_nodes={trainer.num_nodes}: its workers are on one machine", "num_nodes=1"
    elif trainer.compress:
        why, mend = f"trainer.compress={trainer.compress}: its gradients travel whole", "compress=null"
    elif trainer.precision == "16-mixed":
        why, mend = "trainer.precision=16-mixed: each worker would scale its loss alone", "precision=32-true"
    elif trainer.energy:
        why, mend = "trainer.energy=true: the first worker alone would be counted", "energy=false"
    elif decay is not None:
        why, mend = f"ema.decay={decay}: no worker sees the weights of every step", "method=ring"
    elif optimizer.needs_closure or optimizer.averages_weights or optimizer.is_composed:
        kind = target.rpartition(".")[2]
        why, mend = f"{kind}: its server steps once for one gradient, with one optimizer", "method=ring"
    if why:
        raise UserError(f"trainer.method=ps_async with {why}: trainer.{mend}")
    if importlib.util.find_spec("ray") is None:
        raise UserError("trainer.method=ps_async needs the package ray: pip install -e '.[ray]'")


def check_sharding(config: RunConfig) -> None:
    """Refuse settings that trainer.shard=true cannot keep.

    Raises:
        UserError: the setting, why, and the override that mends it.
    """
    trainer, optimizer = config.trainer, config.optimizer
    if not trainer.shard:
        return
    target = optimizer.target
    traits, kind = traits_of(target), target.rpartition(".")[2]
    if trainer.processes == 1:
        why = "splits a network over processes, and there is one: trainer.devices=2, or trainer.shard=false"
    elif trainer.method != "ring":
        why = (
            f"leaves no process whole parameters, which trainer.method={trainer.method} exchanges: "
            "trainer.method=ring, or trainer.shard=false"
        )
    elif trainer.precision == "16-mixed":
        why = "has no loss scale for trainer.precision=16-mixed: trainer.precision=bf16-mixed"
    elif trainer.compile:
        why = "gathers parameters where a compiled network expects them whole: trainer.compile=false"
    elif traits.needs_closure:
        why = f"leaves no process the whole gradient that {kind} multiplies with others: optimizer=adamw"
    elif traits.is_composed:
        why = f"does not split the states of the optimizers that {kind} is made of: optimizer=adamw"
    elif traits.averages_weights:
        why = f"does not split the second set of weights that {kind} keeps: optimizer=adamw"
    elif optimizer.get("fused") and not traits.fused_takes_shards:
        why = f"has no fused kernel of {kind} for split tensors: optimizer.fused=null"
    else:
        return
    raise UserError(f"trainer.shard=true {why}")


def fused_for_parts(optimizer: Mapping[str, Any]) -> bool | None:
    """The setting `fused` where the choice was left to us: off where there is no kernel for split tensors."""
    chosen: bool | None = optimizer.get("fused")
    return chosen if chosen is not None or traits_of(optimizer["_target_"]).fused_takes_shards else False
