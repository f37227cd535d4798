"""One optimizer of two: Muon for hidden matrices, AdamW for all other parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from tempo.errors import UserError


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) and AdamW, both torch's.

    Muon orthogonalizes the momentum of a matrix before the step, `B <- NewtonSchulz(B)`; it is meant for the
    weights of hidden layers. AdamW trains the first and the last weight of the network, biases, norms and
    filters of more than two dimensions.

    Args:
        params: parameter groups, in the order of the network.
        lr, weight_decay: of both.
        momentum: Muon's; a schedule that changes momentum changes that of both.
        nesterov: whether Muon looks ahead.
        ns_steps: Newton-Schulz iterations.
        adjust_lr_fn: `match_rms_adamw` (arXiv:2502.16982) scales Muon's step to the size of AdamW's, so that
            one lr and one weight decay suit both; `original` does not, and needs an lr of its own.
        adamw_momentum, beta2, eps: AdamW's beta1, beta2 and epsilon.

    Raises:
        UserError: the network has no hidden matrix.
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
                "optimizer=muon is for matrices between the first layer and the last, and this network has "
                "none; set model=mlp model.hidden=[128,64,32], or optimizer=adamw"
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
        # The same dictionaries, not copies: the two optimizers read what a schedule writes here.
        self.param_groups = [*self.muon.param_groups, *self.adamw.param_groups]

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """Take a step of each; return the loss of `closure` if one is given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.muon.step()
        self.adamw.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return both states under their names."""
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self.muon.load_state_dict(state_dict["muon"])
        self.adamw.load_state_dict(state_dict["adamw"])
        self._share_groups()


def _hidden_matrices(parameters: Sequence[Tensor]) -> set[int]:
    """Return the ids of the matrices between the first weight and the last."""
    weights = [parameter for parameter in parameters if parameter.ndim >= 2]
    return {id(weight) for weight in weights[1:-1] if weight.ndim == 2}


def _groups(groups: Sequence[dict[str, Any]], chosen: Callable[[Tensor], bool]) -> list[dict[str, Any]]:
    """Return the chosen parameters of each group, with the group's own weight decay."""
    kept = [
        {"params": [p for p in group["params"] if chosen(p)], "weight_decay": group["weight_decay"]}
        for group in groups
    ]
    return [group for group in kept if group["params"]]
