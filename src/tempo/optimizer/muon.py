"""Muon for the hidden matrices, AdamW for all else, as one optimizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from tempo.errors import UserError


class MuonWithAdamW(torch.optim.Optimizer):
    """Keller Jordan's division of labour (kellerjordan.github.io/posts/muon), with torch's two optimizers.

    Muon orthogonalises the momentum of a matrix before the step; it is meant for the weights of hidden
    layers. The first and the last weight of the network, biases, normalisation and filters of more than two
    dimensions go to AdamW. `match_rms_adamw` (arXiv:2502.16982) scales Muon's step to the size of AdamW's, so
    that one `lr` and one `weight_decay` serve both; `original` does not, and wants an lr of its own.

    `momentum` is Muon's, `adamw_momentum` is AdamW's beta1. A schedule that moves momentum moves both.

    Raises UserError for a network without a hidden matrix.
    """

    is_composed: ClassVar[bool] = True

    def __init__(
        self,
        params: Sequence[dict[str, Any]],
        *,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        adjust_lr_fn: Literal["original", "match_rms_adamw"] = "match_rms_adamw",
        adamw_momentum: float = 0.9,
        beta2: float = 0.95,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        hidden = _hidden_matrices([p for group in self.param_groups for p in group["params"]])
        if not hidden:
            raise UserError(
                "optimizer=muon is for matrices between the first layer and the last, and the network has "
                "none: model=mlp, or optimizer=adamw"
            )
        self.muon = torch.optim.Muon(
            _groups(self.param_groups, lambda p: id(p) in hidden),
            lr=lr,
            momentum=momentum,
            nesterov=nesterov,
            ns_steps=ns_steps,
            adjust_lr_fn=adjust_lr_fn,
        )
        self.adamw = torch.optim.AdamW(
            _groups(self.param_groups, lambda p: id(p) not in hidden),
            lr=lr,
            betas=(adamw_momentum, beta2),
            eps=eps,
            fused=True,
        )
        self._share_groups()

    def _share_groups(self) -> None:
        # The very dictionaries of the two: what a schedule writes here, they read.
        self.param_groups = [*self.muon.param_groups, *self.adamw.param_groups]

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """A step of each; the loss of `closure` where there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.muon.step()
        self.adamw.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The two states under their names."""
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.muon.load_state_dict(state_dict["muon"])
        self.adamw.load_state_dict(state_dict["adamw"])
        self._share_groups()


def _hidden_matrices(parameters: Sequence[Tensor]) -> set[int]:
    """Ids of the matrices between the first weight and the last, in the order of the network."""
    weights = [each for each in parameters if each.ndim >= 2]
    return {id(each) for each in weights[1:-1] if each.ndim == 2}


def _groups(groups: Sequence[dict[str, Any]], chosen: Callable[[Tensor], bool]) -> list[dict[str, Any]]:
    """The chosen parameters of each group, with the group's own decay."""
    kept = [
        {"params": [p for p in group["params"] if chosen(p)], "weight_decay": group["weight_decay"]}
        for group in groups
    ]
    return [group for group in kept if group["params"]]
