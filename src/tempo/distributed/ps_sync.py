"""`trainer.method=ps_sync`: a synchronous parameter server built from explicit messages.

The messages form a star around each server on any backend. `reduce` and `broadcast` would not, because gloo
and NCCL turn them into rings, trees and pipelines.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, distributed, nn
from torch._C._distributed_c10d import GradBucket
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from tempo.distributed.collectives import all_gather_bytes
from tempo.distributed.ring import COMPRESSED_DTYPE, Backend, Compress, HookedDDPStrategy

Placement = Literal["round_robin", "by_size", "sharded"]
Message = tuple[Callable[..., Any], Tensor, int]
"""`isend` or `irecv`, the tensor to send or write to, and the rank at the other end."""


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Layout of the server. The first `count` ranks are servers as well as workers.

    `placement` assigns whole parameters (`round_robin`, `by_size`) or equal parts of each bucket (`sharded`).
    With `reply` = "gradients", servers return averaged gradients and every worker steps. With "parameters",
    as in TensorFlow, only a parameter's server steps it and holds its optimizer state.
    """

    count: int
    placement: Placement
    reply: Literal["gradients", "parameters"]


def place_parameters(
    sizes: Sequence[int], servers: int, placement: Literal["round_robin", "by_size"]
) -> list[int]:
    """Return the server of each parameter, given the parameters' sizes.

    `round_robin` assigns parameters in turn, TensorFlow's default. `by_size` assigns the largest first, each
    time to the server with the least load (Graham's LPT rule: at most 4/3 of the best possible load).
    """
    if placement == "round_robin":
        return [index % servers for index in range(len(sizes))]
    load, owners = [0] * servers, [0] * len(sizes)
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        owners[index] = load.index(min(load))
        load[owners[index]] += sizes[index]
    return owners


class SyncServerStrategy(HookedDDPStrategy):
    """DistributedDataParallel whose gradients go through a synchronous parameter server."""

    def __init__(
        self,
        *,
        servers: ServerSettings,
        compress: Compress | None = None,
        process_group_backend: Backend | None = None,
    ) -> None:
        super().__init__(compress=compress, process_group_backend=process_group_backend)
        self.servers = servers
        self.steps = 0

    def register_hook(self, network: DistributedDataParallel) -> None:
        """Replace the all-reduce with the server."""
        self.server = use_server(network, self.servers, self.compress)

    def optimizer_step(self, optimizer: torch.optim.Optimizer, *arguments: Any, **named: Any) -> Any:
        """Step every parameter on every rank, or each only at its server."""
        self.steps += 1
        if self.servers.reply == "gradients":
            return super().optimizer_step(optimizer, *arguments, **named)
        self.server.keep_own_gradients()
        result = super().optimizer_step(optimizer, *arguments, **named)
        self.server.send_parameters()
        return result

    @property
    def exchange(self) -> dict[str, float]:
        """Bytes per step that this rank sends and receives, for the record."""
        steps = max(1, self.steps)
        return {
            "sent_bytes_per_step": self.server.sent_bytes / steps,
            "received_bytes_per_step": self.server.received_bytes / steps,
        }

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Return the whole state, gathered from the servers, so that a checkpoint fits any layout."""
        state: dict[str, Any] = super().optimizer_state(optimizer)
        if self.servers.reply == "parameters":
            state["state"] = self.server.gather_state(state["state"])
        return state


def use_server(
    network: DistributedDataParallel, settings: ServerSettings, compress: Compress | None
) -> SyncServer:
    """Send the gradients of a wrapped network through a server instead of an all-reduce."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    server = SyncServer(trained, settings, None if compress is None else COMPRESSED_DTYPE[compress])
    # torch requires a hook's annotations as objects, but in this file they are strings, so use a lambda.
    network.register_comm_hook(None, lambda state, bucket: server.hook(state, bucket))  # noqa: PLW0108
    return server


class SyncServer:
    """One rank's messages to and from the servers; `hook` is a communication hook of DDP.

    With gradients of S bytes on N ranks, a worker sends and receives S bytes per step, and a server (N - 1) S
    each way; a server sends itself nothing. Servers add gradients in the order of the ranks, so all ranks see
    the same bits. `wire` is the type in which gradients are sent; None keeps their own.

    Source: Li et al. 2014, *Scaling distributed machine learning with the parameter server*, OSDI.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], settings: ServerSettings, wire: torch.dtype | None = None
    ) -> None:
        self.settings = settings
        self.wire = wire
        self.rank, self.world_size = distributed.get_rank(), distributed.get_world_size()
        self.others = [rank for rank in range(self.world_size) if rank != self.rank]
        self.sent_bytes = 0
        self.received_bytes = 0
        self.parameters = list(parameters)
        self.owners: dict[int, int] = {}
        """Server of each parameter, by the parameter's id; empty if buckets are cut into parts."""
        if settings.placement != "sharded":
            sizes = [parameter.numel() for parameter in self.parameters]
            owners = place_parameters(sizes, settings.count, settings.placement)
            self.owners = {id(p): owner for p, owner in zip(self.parameters, owners, strict=True)}

    def hook(self, state: object, bucket: GradBucket) -> Future[Tensor]:
        """Average a bucket at its servers; if they reply with gradients, write the mean into the bucket."""
        pieces = list(self._pieces(bucket))
        flats = [self._share_of_mean(views) for _, views in pieces]
        received: dict[int, list[Tensor]] = {}
        messages: list[Message] = []
        for index, (server, _) in enumerate(pieces):
            if server == self.rank:
                received[index] = [torch.empty_like(flats[index]) for _ in self.others]
                buffers = zip(received[index], self.others, strict=True)
                messages += [(distributed.irecv, buffer, rank) for buffer, rank in buffers]
            else:
                messages.append((distributed.isend, flats[index], server))
        self._deliver(messages)
        for index, of_others in received.items():
            flats[index] = self._sum_in_order_of_ranks(flats[index], of_others)
        if self.settings.reply == "gradients":
            replies = zip(flats, pieces, strict=True)
            self._deliver([m for flat, (server, _) in replies for m in self._reply(flat, server)])
        for flat, (server, views) in zip(flats, pieces, strict=True):
            if server == self.rank or self.settings.reply == "gradients":
                _write_back(flat, views)
        done: Future[Tensor] = Future()
        done.set_result(bucket.buffer())
        return done

    def keep_own_gradients(self) -> None:
        """Drop the gradients of parameters that another server steps; call before the optimizer step."""
        for parameter in self.parameters:
            if not self._owns(parameter):
                # torch's optimizers skip a parameter without a gradient.
                parameter.grad = None

    def send_parameters(self) -> None:
        """Send every server's parameters to all other ranks; call after the optimizer step."""
        owned: list[list[Tensor]] = [[] for _ in range(self.settings.count)]
        for parameter in self.parameters:
            owned[self.owners[id(parameter)]].append(parameter.data)
        flats = {server: _flatten(views) for server, views in enumerate(owned) if views}
        self._deliver([message for server, flat in flats.items() for message in self._reply(flat, server)])
        for server, flat in flats.items():
            if server != self.rank:
                _write_back(flat, owned[server])

    def gather_state(self, state: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
        """Return an optimizer's state `{parameter number: values}`, each from the server that steps it."""
        own = {n: state[n] for n, p in enumerate(self.parameters) if self._owns(p) and n in state}
        buffer = io.BytesIO()
        torch.save(own, buffer)
        device = self.parameters[0].device
        whole: dict[int, dict[str, Any]] = {}
        for data in all_gather_bytes(buffer.getvalue(), device):
            # weights_only: what came over a network must not run code.
            whole |= torch.load(io.BytesIO(data), map_location=device, weights_only=True)
        return dict(sorted(whole.items()))

    def _owns(self, parameter: nn.Parameter) -> bool:
        return self.owners[id(parameter)] == self.rank

    def _pieces(self, bucket: GradBucket) -> Iterator[tuple[int, list[Tensor]]]:
        """Yield (server, views into the bucket's buffer), in the same order on all ranks."""
        if self.settings.placement == "sharded":
            for server, part in enumerate(bucket.buffer().tensor_split(self.settings.count)):
                if part.numel():
                    yield server, [part]
            return
        of_server: dict[int, list[Tensor]] = {}
        for parameter, gradient in zip(bucket.parameters(), bucket.gradients(), strict=True):
            of_server.setdefault(self.owners[id(parameter)], []).append(gradient)
        yield from sorted(of_server.items())

    def _share_of_mean(self, views: Sequence[Tensor]) -> Tensor:
        flat = _flatten(views)
        # Divide before adding, because a sum in float16 could overflow.
        return (flat if self.wire is None else flat.to(self.wire)).div_(self.world_size)

    def _sum_in_order_of_ranks(self, own: Tensor, of_others: list[Tensor]) -> Tensor:
        of_ranks = [*of_others[: self.rank], own, *of_others[self.rank :]]
        total = of_ranks[0].clone()
        for gradient in of_ranks[1:]:
            total += gradient
        return total

    def _reply(self, flat: Tensor, server: int) -> list[Message]:
        """Return this rank's part of the messages that bring a server's tensor to every other rank."""
        if server == self.rank:
            return [(distributed.isend, flat, rank) for rank in self.others]
        return [(distributed.irecv, flat, server)]

    def _deliver(self, messages: list[Message]) -> None:
        """Exchange all messages at once and wait until they have arrived."""
        if not messages:
            return
        for operation, message, _ in messages:
            if operation is distributed.isend:
                self.sent_bytes += message.nbytes
            else:
                self.received_bytes += message.nbytes
        # As one batch: with NCCL, a send of each rank before its receive could wait for ever.
        for work in distributed.batch_isend_irecv([distributed.P2POp(*message) for message in messages]):
            work.wait()


def _flatten(views: Sequence[Tensor]) -> Tensor:
    return torch.cat([view.reshape(-1) for view in views])


def _write_back(flat: Tensor, views: Sequence[Tensor]) -> None:
    for view, part in zip(views, flat.split([view.numel() for view in views]), strict=True):
        view.copy_(part.view_as(view))
