"""Which process of a group this one is, whoever started the group: tempo itself, torchrun or srun."""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tempo.errors import UserError

OURS = "TEMPO_GROUP"
"""Set for the processes of a group that tempo started: its starter holds the run's folder."""
RUN_ID = "TEMPO_RUN_ID"


@dataclass(frozen=True)
class Place:
    """A process in its group; `shared_id` is a word that all of them know, "" where there is none."""

    rank: int
    world_size: int
    local_world_size: int
    shared_id: str

    @property
    def is_ours(self) -> bool:
        """Whether tempo started the group on a configuration that it had resolved."""
        return OURS in os.environ


def is_asynchronous(trainer: Mapping[str, Any]) -> bool:
    """Whether several workers train, each at its own pace: no group that does things together."""
    return trainer.get("method") == "ps_async" and trainer["devices"] > 1


def started_by_srun() -> bool:
    """Whether this process is one of several tasks of srun.

    SLURM_STEP_NUM_TASKS is there in the tasks of srun alone, not in a batch script.
    """
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1


def take_names_of_torchrun() -> None:
    """Where srun started several tasks, give their places under torchrun's names too."""
    if "LOCAL_RANK" in os.environ or not started_by_srun():
        return
    tasks = os.environ["SLURM_STEP_NUM_TASKS"]
    nodes = int(os.environ.get("SLURM_STEP_NUM_NODES", "1"))
    os.environ |= {
        "RANK": os.environ["SLURM_PROCID"],
        "LOCAL_RANK": os.environ["SLURM_LOCALID"],
        "WORLD_SIZE": tasks,
        "LOCAL_WORLD_SIZE": str(int(tasks) // nodes),
    }


def place() -> Place | None:
    """This process's place; None in a process of its own."""
    if "LOCAL_RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return None
    world_size = int(os.environ["WORLD_SIZE"])
    elastic = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    slurm = "_".join(os.environ[key] for key in ("SLURM_JOB_ID", "SLURM_STEP_ID") if key in os.environ)
    return Place(
        rank=int(os.environ["RANK"]),
        world_size=world_size,
        local_world_size=int(os.environ.get("LOCAL_WORLD_SIZE", world_size)),
        shared_id=os.environ.get(RUN_ID) or (elastic if elastic != "none" else slurm),
    )


def follows() -> bool:
    """Whether another process of the run writes its record: a rank above 0, or a node above 0."""
    here = place()
    return here.rank > 0 if here else int(os.environ.get("NODE_RANK", "0")) > 0


def check_layout(trainer: Mapping[str, Any]) -> None:
    """Refuse a group that is another than the configuration says; Lightning lets some of them pass.

    Raises:
        UserError: the number of processes, or of those on this node, is not what trainer.* asks for.
    """
    here = place()
    if here is None:
        return
    if is_asynchronous(trainer) and not here.is_ours:
        raise UserError(
            "trainer.method=ps_async starts its own workers, and torchrun or srun has started this process: "
            "python src/train.py without them, or trainer.method=ring"
        )
    devices, nodes = trainer["devices"], trainer["num_nodes"]
    if (here.world_size, here.local_world_size) != (devices * nodes, devices):
        raise UserError(
            f"{here.world_size} processes were started, {here.local_world_size} on this node, and "
            f"trainer.devices={devices} x trainer.num_nodes={nodes} asks for {devices * nodes}, {devices} a "
            f"node: trainer.devices={here.local_world_size} "
            f"trainer.num_nodes={max(1, here.world_size // here.local_world_size)}"
        )


def has_group() -> bool:
    """Whether this process is in a group of torch.distributed."""
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_initialized()


def leave_group() -> None:
    """Leave this process's group, all of whose work is done, and join its threads.

    A thread of gloo may still hold the tensors of the last exchange. Dropping them takes Python's lock; a
    Python that has begun to end ends the thread instead, and C++ the process: SIGABRT after a whole run. The
    groups of a split network's meshes live on in caches of torch; they were used before the run's own.
    """
    if has_group():
        gc.collect()  # a group's threads are joined once nothing refers to it, and a trainer lies in cycles
        sys.modules["torch.distributed"].destroy_process_group()


def check_start(trainer: Mapping[str, Any]) -> None:
    """Refuse, before anything is read, processes or nodes that cannot come together.

    Raises:
        UserError: see `check_layout` and `rendezvous`.
    """
    check_layout(trainer)
    if place() is None:
        rendezvous(trainer["num_nodes"])


def rendezvous(nodes: int) -> list[str]:
    """Arguments of torchrun that bring the nodes of a run together.

    Raises:
        UserError: several nodes, and nothing says where they meet.
    """
    if nodes == 1:
        return ["--standalone"]
    names = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
    if missing := [name for name in names if not os.environ.get(name)]:
        unset = " and ".join(filter(None, [", ".join(missing[:-1]), missing[-1]]))
        raise UserError(
            f"trainer.num_nodes={nodes} needs {unset}, which {'is' if len(missing) == 1 else 'are'} not set: "
            "start the same command on each node, with MASTER_ADDR=<first node> MASTER_PORT=29500 "
            "NODE_RANK=<0, 1, ..> in front and one hydra.run.dir=<folder>, or start it under srun or "
            "torchrun; trainer.num_nodes=1 for this node alone"
        )
    address, port, rank = (os.environ[name] for name in names)
    if not rank.isdecimal() or not port.isdecimal() or int(rank) >= nodes:
        raise UserError(
            f"NODE_RANK={rank} MASTER_PORT={port}: a node's number in [0, {nodes}) and a port; "
            "NODE_RANK=0 MASTER_PORT=29500 on the first node"
        )
    if int(rank) == 0:
        _check_port_is_free(port)
    return [f"--nnodes={nodes}", f"--node-rank={rank}", f"--master-addr={address}", f"--master-port={port}"]


def _check_port_is_free(port: str) -> None:
    """UserError where another program listens at the port at which this node would meet the others."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # left by a run that is over: free
        try:
            probe.bind(("", int(port)))
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise UserError(
                f"MASTER_PORT={port} cannot be used on this node ({reason}): another one in [1024, 65535], "
                f"the same on all nodes, e.g. MASTER_PORT={29501 if port == '29500' else 29500}"
            ) from error
