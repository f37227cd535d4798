"""Rules for training in several processes: trainer.method, server and trainer.shard."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from typing import Any

from tempo.config.schema import RunConfig
from tempo.optimizer.capabilities import traits_of

Rules = Iterator[tuple[bool, str]]
"""Whether a rule is broken, and the message if it is."""


def exchange(config: RunConfig) -> Rules:
    """Yield the rules for each way of exchanging gradients."""
    trainer, server = config.trainer, config.server
    method, processes = trainer.method, trainer.processes
    yield (
        server.max_staleness is not None and method != "ps_async",
        f"server.max_staleness={server.max_staleness} is only for trainer.method=ps_async, whose gradients "
        "can be late; set server.max_staleness=null",
    )
    if method == "ring":
        return
    yield (
        processes == 1,
        f"trainer.method={method} needs more than one process; use trainer=ddp_cpu trainer.devices=2, or set "
        "trainer.method=ring",
    )
    if method == "ps_async":
        yield from _one_server(config)
        return
    yield (
        server.count > processes,
        f"server.count={server.count} must be in [1, {processes}], the number of processes; set "
        "server.count=1",
    )
    if server.reply == "parameters":
        yield from _stepping_servers(config)


def _stepping_servers(config: RunConfig) -> Rules:
    """Yield the rules for servers that step: each has only its own variables and their optimizer state."""
    trainer, server = config.trainer, config.server
    optimizer = traits_of(config.optimizer.target)
    for is_broken, reason in (
        (
            server.placement == "sharded",
            "server.placement=sharded cuts variables into parts, which no optimizer can step separately",
        ),
        (
            trainer.precision == "16-mixed",
            "trainer.precision=16-mixed adapts the loss scale to the gradients of every process",
        ),
        (
            trainer.gradient_clip is not None and server.count > 1,
            "trainer.gradient_clip needs all gradients in one place",
        ),
        (optimizer.needs_closure, "a line search needs the gradient in every process"),
        (optimizer.averages_weights, "every process evaluates the optimizer's average of the weights"),
        (optimizer.is_composed, "the states of this optimizer's two parts are not gathered from the servers"),
    ):
        yield (
            is_broken,
            f"{reason}, but with server.reply=parameters each server steps its own variables; set "
            "server.reply=gradients",
        )


def _one_server(config: RunConfig) -> Rules:
    """Yield the rules for ps_async: one server, in its own process, steps on each worker's gradient."""
    trainer, server, optimizer = config.trainer, config.server, config.optimizer
    for key, only in (("count", 1), ("placement", "by_size"), ("reply", "parameters")):
        value = getattr(server, key)
        yield (
            value != only,
            f"server.{key}={value} is for trainer.method=ps_sync; with ps_async one process holds all "
            f"parameters, steps and sends them; set server.{key}={only}",
        )
    traits = traits_of(optimizer.target)
    one_step = not (traits.needs_closure or traits.averages_weights or traits.is_composed)
    for is_broken, reason, remedy in (
        (
            trainer.num_nodes > 1,
            f"trainer.num_nodes={trainer.num_nodes}: its workers run on one machine",
            "num_nodes=1",
        ),
        (
            trainer.compress is not None,
            f"trainer.compress={trainer.compress}: its gradients are sent whole",
            "compress=null",
        ),
        (
            trainer.precision == "16-mixed",
            "trainer.precision=16-mixed: each worker would scale its loss alone",
            "precision=32-true",
        ),
        (trainer.energy, "trainer.energy=true: only the first worker would be counted", "energy=false"),
        (
            config.ema.decay is not None,
            f"ema.decay={config.ema.decay}: no worker sees the weights of every step",
            "method=ring",
        ),
        (
            not one_step,
            f"{optimizer.name}: its server takes one step per gradient, with one optimizer",
            "method=ring",
        ),
    ):
        yield is_broken, f"trainer.method=ps_async cannot have {reason}; set trainer.{remedy}"
    yield (
        importlib.util.find_spec("ray") is None,
        "trainer.method=ps_async needs the package ray; run pip install -e '.[ray]'",
    )


def sharding(config: RunConfig) -> Rules:
    """Yield the rules for trainer.shard=true."""
    trainer, kind = config.trainer, config.optimizer.name
    traits = traits_of(config.optimizer.target)
    if not trainer.shard:
        return
    for is_broken, reason, remedy in (
        (
            trainer.processes == 1,
            "splits a network over processes, but this run has only one",
            "trainer.devices=2, or trainer.shard=false",
        ),
        (
            trainer.method != "ring",
            f"leaves no process with whole parameters, which trainer.method={trainer.method} exchanges",
            "trainer.method=ring, or trainer.shard=false",
        ),
        (
            trainer.precision == "16-mixed",
            "has no loss scale for trainer.precision=16-mixed",
            "trainer.precision=bf16-mixed",
        ),
        (
            trainer.compile,
            "gathers parameters during a pass, but a compiled network expects them whole",
            "trainer.compile=false",
        ),
        (
            traits.needs_closure,
            f"leaves no process with the whole gradient, from which {kind} computes dot products",
            "optimizer=adamw",
        ),
        (
            traits.is_composed,
            f"does not split the states of the optimizers that {kind} is made of",
            "optimizer=adamw",
        ),
        (
            traits.averages_weights,
            f"does not split the second set of weights that {kind} keeps",
            "optimizer=adamw",
        ),
        (
            bool(config.optimizer.get("fused")) and not traits.fused_takes_shards,
            f"has no fused {kind} kernel for split tensors",
            "optimizer.fused=null",
        ),
    ):
        yield is_broken, f"trainer.shard=true {reason}; set {remedy}"


def fused_for_parts(optimizer: Mapping[str, Any]) -> bool | None:
    """Return the setting `fused` for split tensors: the user's choice, or off if there is no such kernel."""
    chosen: bool | None = optimizer.get("fused")
    return chosen if chosen is not None or traits_of(optimizer["_target_"]).fused_takes_shards else False
