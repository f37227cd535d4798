"""A synchronous parameter server in explicit messages: a star, whatever the backend makes of collectives."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, distributed, nn
from torch._C._distributed_c10d import GradBucket
from torch.futures import Future

from tempo.distributed.placement import Placement, place

Reply = Literal["gradients", "parameters"]


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """The first `count` ranks are servers beside their work as workers.

    `placement`: whole variables (`round_robin`, `by_size`), or each bucket in equal parts (`sharded`).
    `reply`: the averaged gradients, after which every worker steps; or the parameters, TensorFlow's way,
    where a variable's server alone steps and alone has the optimizer's state for it.
    """

    count: int
    placement: Placement
    reply: Reply


class Star:
    """The messages of one rank; `hook` is a communication hook of DistributedDataParallel.

    A step costs a worker S bytes out and S in, and a server (N - 1) S each, for gradients of S bytes on N
    ranks; what a server would send to itself is not sent. Sums run in the order of the ranks, so all ranks
    see the same bits. `wire` is the type in which gradients travel, None for their own.

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
        """Server of a parameter, by its id; empty where buckets are cut into parts."""
        if settings.placement != "sharded":
            sizes = [each.numel() for each in self.parameters]
            owners = place(sizes, settings.count, settings.placement)
            self.owners = {id(each): owner for each, owner in zip(self.parameters, owners, strict=True)}

    def hook(self, state: object, bucket: GradBucket) -> Future[Tensor]:
        """Average a bucket at its servers and, where they reply with gradients, bring it back."""
        pieces = list(self._pieces(bucket))
        flats = [self._on_the_wire(views) for _, views in pieces]
        inbox: dict[int, list[Tensor]] = {}
        messages: list[tuple[Callable[..., Any], Tensor, int]] = []
        for index, (server, _) in enumerate(pieces):
            if server == self.rank:
                inbox[index] = [torch.empty_like(flats[index]) for _ in self.others]
                boxes = zip(inbox[index], self.others, strict=True)
                messages += [(distributed.irecv, box, rank) for box, rank in boxes]
            else:
                messages.append((distributed.isend, flats[index], server))
        self._deliver(messages)
        for index, boxes_of_piece in inbox.items():
            flats[index] = self._sum(flats[index], boxes_of_piece)
        if self.settings.reply == "gradients":
            self._deliver(
                [
                    message
                    for flat, (server, _) in zip(flats, pieces, strict=True)
                    for message in self._from_server(flat, server)
                ]
            )
        for flat, (server, views) in zip(flats, pieces, strict=True):
            if server == self.rank or self.settings.reply == "gradients":
                _write_back(flat, views)
        done: Future[Tensor] = Future()
        done.set_result(bucket.buffer())
        return done

    def keep_own_gradients(self) -> None:
        """Before an optimizer's step: leave it the variables of this server alone."""
        for parameter in self.parameters:
            if not self._steps(parameter):
                parameter.grad = None

    def send_parameters(self) -> None:
        """After the step: every server sends its variables to all others."""
        owned: list[list[Tensor]] = [[] for _ in range(self.settings.count)]
        for parameter in self.parameters:
            owned[self.owners[id(parameter)]].append(parameter.data)
        flats = [torch.cat([each.reshape(-1) for each in views]) if views else None for views in owned]
        messages = []
        for server, flat in enumerate(flats):
            if flat is not None:
                messages += self._from_server(flat, server)
        self._deliver(messages)
        for server, (flat, views) in enumerate(zip(flats, owned, strict=True)):
            if flat is not None and server != self.rank:
                _write_back(flat, views)

    def gather_state(self, state: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
        """An optimizer's state `{parameter's number: values}`, each from the server that steps it."""
        mine = {n: state[n] for n, each in enumerate(self.parameters) if self._steps(each) and n in state}
        whole: dict[int, dict[str, Any]] = {}
        for part in _gathered(mine, self.parameters[0].device):
            whole |= part
        return dict(sorted(whole.items()))

    def _steps(self, parameter: nn.Parameter) -> bool:
        return self.owners[id(parameter)] == self.rank

    def _pieces(self, bucket: GradBucket) -> Iterator[tuple[int, list[Tensor]]]:
        """(server, views into the bucket's buffer), in an order that all ranks share."""
        if self.settings.placement == "sharded":
            for server, part in enumerate(bucket.buffer().tensor_split(self.settings.count)):
                if part.numel():
                    yield server, [part]
            return
        of_server: dict[int, list[Tensor]] = {}
        for parameter, gradient in zip(bucket.parameters(), bucket.gradients(), strict=True):
            of_server.setdefault(self.owners[id(parameter)], []).append(gradient)
        yield from sorted(of_server.items())

    def _on_the_wire(self, views: Sequence[Tensor]) -> Tensor:
        """A rank's share of the mean: divided before it is summed, where a sum in float16 would overflow."""
        flat = torch.cat([each.reshape(-1) for each in views])
        return (flat if self.wire is None else flat.to(self.wire)).div_(self.world_size)

    def _sum(self, own: Tensor, received: list[Tensor]) -> Tensor:
        of_ranks = [*received[: self.rank], own, *received[self.rank :]]
        total = of_ranks[0].clone()
        for each in of_ranks[1:]:
            total += each
        return total

    def _from_server(self, flat: Tensor, server: int) -> list[tuple[Callable[..., Any], Tensor, int]]:
        if server == self.rank:
            return [(distributed.isend, flat, rank) for rank in self.others]
        return [(distributed.irecv, flat, server)]

    def _deliver(self, messages: list[tuple[Callable[..., Any], Tensor, int]]) -> None:
        """All messages at once; returns when they have arrived."""
        if not messages:
            return
        for operation, tensor, _ in messages:
            if operation is distributed.isend:
                self.sent_bytes += tensor.nbytes
            else:
                self.received_bytes += tensor.nbytes
        for work in distributed.batch_isend_irecv([distributed.P2POp(*each) for each in messages]):
            work.wait()


def _gathered(values: dict[int, Any], device: torch.device) -> list[dict[int, Any]]:
    """The plain values of each rank, read back as a checkpoint is: as data, never as code."""
    buffer = io.BytesIO()
    torch.save(values, buffer)
    mine = torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8).to(device)
    lengths = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(distributed.get_world_size())]
    distributed.all_gather(lengths, torch.tensor([len(mine)], device=device))
    padded = torch.zeros(int(max(lengths)), dtype=torch.uint8, device=device)
    padded[: len(mine)] = mine
    rows = [torch.zeros_like(padded) for _ in lengths]
    distributed.all_gather(rows, padded)
    texts = [row[: int(size)].cpu().numpy().tobytes() for row, size in zip(rows, lengths, strict=True)]
    return [torch.load(io.BytesIO(text), map_location=device, weights_only=True) for text in texts]


def _write_back(flat: Tensor, views: Sequence[Tensor]) -> None:
    for view, part in zip(views, flat.split([each.numel() for each in views]), strict=True):
        view.copy_(part.view_as(view))
