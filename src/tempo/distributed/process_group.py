"""Position of this process in its group, which tempo, torchrun or srun started; does not import torch."""

from __future__ import annotations

import gc
import os
import socket
import sys
from dataclasses import dataclass
from typing import Any

from tempo.distributed.gradient_exchange import Exchange
from tempo.distributed.local_group import STORE
from tempo.errors import UserError

OURS = "TEMPO_GROUP"
"""Variable set in the processes of a group that tempo started; the starting process locks the folder."""
RUN_ID = "TEMPO_RUN_ID"


@dataclass(frozen=True)
class Position:
    """Position of a process in its group; `shared_id` is a string shared by all of them, or empty."""

    rank: int
    world_size: int
    local_world_size: int
    shared_id: str

    @property
    def is_ours(self) -> bool:
        """Whether tempo started the group, with an already resolved configuration."""
        return OURS in os.environ


def started_by_srun() -> bool:
    """Whether srun started this process as one of several tasks.

    Only srun's tasks have SLURM_STEP_NUM_TASKS; a batch script does not.
    """
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1


def cluster_environment() -> Any:
    """Return the environment in which Lightning finds this process's rank: torchrun's, srun's or none.

    A group that tempo started on one machine has torchrun's variables.

    Lightning's own choice mistakes any process in a SLURM allocation for a task of srun, warns if srun is
    installed, and would itself requeue a job that the sweep's launcher already requeues.
    """
    # Imported only here because they import torch.
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    if TorchElasticEnvironment.detect() or STORE in os.environ:  # the same variables
        return TorchElasticEnvironment()
    return SLURMEnvironment(auto_requeue=False) if started_by_srun() else LightningEnvironment()


def take_names_of_torchrun() -> None:
    """Set torchrun's environment variables from srun's, if srun started several tasks."""
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


def position() -> Position | None:
    """Return the position of this process; None if it runs alone."""
    if "LOCAL_RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return None
    world_size = int(os.environ["WORLD_SIZE"])
    # `none` is torchrun's default, so it does not tell one group from another.
    elastic = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    slurm = "_".join(os.environ[key] for key in ("SLURM_JOB_ID", "SLURM_STEP_ID") if key in os.environ)
    return Position(
        rank=int(os.environ["RANK"]),
        world_size=world_size,
        local_world_size=int(os.environ.get("LOCAL_WORLD_SIZE", world_size)),
        shared_id=os.environ.get(RUN_ID) or (elastic if elastic != "none" else slurm),
    )


def follows() -> bool:
    """Whether another process writes the run's record, since this rank or node is not the first."""
    here = position()
    return here.rank > 0 if here else int(os.environ.get("NODE_RANK", "0")) > 0


def check_layout(exchange: Exchange) -> None:
    """Check the number of processes; Lightning accepts some wrong numbers.

    Raises:
        UserError: the group does not have trainer.devices x trainer.num_nodes processes, or this node does
            not have trainer.devices.
    """
    here = position()
    if here is None:
        return
    if exchange.is_asynchronous and not here.is_ours:
        raise UserError(
            "trainer.method=ps_async starts its own workers, but torchrun or srun started this process; run "
            "python src/train.py without them, or set trainer.method=ring"
        )
    devices, nodes = exchange.devices, exchange.nodes
    if (here.world_size, here.local_world_size) != (devices * nodes, devices):
        raise UserError(
            f"{here.world_size} processes were started, {here.local_world_size} on this node, but "
            f"trainer.devices={devices} x trainer.num_nodes={nodes} needs {devices * nodes}, {devices} per "
            f"node; set trainer.devices={here.local_world_size} "
            f"trainer.num_nodes={max(1, here.world_size // here.local_world_size)}"
        )


def has_group() -> bool:
    """Whether this process has joined a torch.distributed group."""
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_initialized()


def leave_group() -> None:
    """Leave the group once all its work is done, and join its threads.

    A gloo thread may still hold the tensors of the last exchange, and freeing them takes Python's lock. If
    Python is already shutting down, it ends that thread and C++ aborts the process: SIGABRT after a complete
    run. The groups of FSDP2's meshes stay in torch's caches, but their last use was earlier.
    """
    if has_group():
        gc.collect()  # a trainer refers to itself and the group; threads are joined only once it is freed
        sys.modules["torch.distributed"].destroy_process_group()


def check_start(exchange: Exchange) -> None:
    """Check that processes and nodes can form a group, before any data is read.

    Raises:
        UserError: an error of `check_layout` or `rendezvous`.
    """
    check_layout(exchange)
    if position() is None:
        rendezvous(exchange.nodes)


def rendezvous(nodes: int) -> list[str]:
    """Return the arguments for torchrun that let the nodes of a run find each other; none for one node.

    Raises:
        UserError: there are several nodes, but the address, the port or this node's number is not usable.
    """
    if nodes == 1:
        return []
    names = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
    if missing := [name for name in names if not os.environ.get(name)]:
        unset = " and ".join(filter(None, [", ".join(missing[:-1]), missing[-1]]))
        raise UserError(
            f"trainer.num_nodes={nodes} needs {unset}, which {'is' if len(missing) == 1 else 'are'} not set; "
            "start the same command on each node with MASTER_ADDR=<first node> MASTER_PORT=29500 "
            "NODE_RANK=<0, 1, ..> in front and the same hydra.run.dir=<folder>, use srun or torchrun, or "
            "set trainer.num_nodes=1"
        )
    address, port, rank = (os.environ[name] for name in names)
    if not rank.isdecimal() or not port.isdecimal() or int(rank) >= nodes:
        raise UserError(
            f"NODE_RANK={rank} MASTER_PORT={port} must be a node's number in [0, {nodes}) and a port; set "
            "NODE_RANK=0 MASTER_PORT=29500 on the first node"
        )
    if int(rank) == 0:
        _check_port_is_free(port)
    return [f"--nnodes={nodes}", f"--node-rank={rank}", f"--master-addr={address}", f"--master-port={port}"]


def _check_port_is_free(port: str) -> None:
    """Raise UserError if another program uses the port on which the nodes meet."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a finished run's port counts as free
        try:
            probe.bind(("", int(port)))
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise UserError(
                f"MASTER_PORT={port} cannot be used on this node ({reason}); set another one in "
                f"[1024, 65535] on all nodes, e.g. MASTER_PORT={29501 if port == '29500' else 29500}"
            ) from error
