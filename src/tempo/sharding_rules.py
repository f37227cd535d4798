"""What a network that is split over processes cannot be trained with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tempo.errors import UserError
from tempo.knobs import AVERAGING, COMPOSED, WITH_CLOSURE

_FUSED_ON_PARTS = ("torch.optim.Adam", "torch.optim.AdamW")
"""Classes whose fused kernel takes split tensors."""


def check_sharding(config: Mapping[str, Any]) -> None:
    """Refuse settings that trainer.shard=true cannot keep.

    Raises:
        UserError: the setting, why, and the override that mends it.
    """
    trainer, optimizer = config["trainer"], config["optimizer"]
    if not trainer.get("shard"):
        return
    target = optimizer["_target_"]
    kind = target.rpartition(".")[2]
    if trainer["devices"] * trainer["num_nodes"] == 1:
        why = "splits a network over processes, and there is one: trainer.devices=2, or trainer.shard=false"
    elif trainer["method"] != "ring":
        why = (
            f"leaves no process whole parameters, which trainer.method={trainer['method']} exchanges: "
            "trainer.method=ring, or trainer.shard=false"
        )
    elif trainer["precision"] == "16-mixed":
        why = "has no loss scale for trainer.precision=16-mixed: trainer.precision=bf16-mixed"
    elif trainer["compile"]:
        why = "gathers parameters where a compiled network expects them whole: trainer.compile=false"
    elif target in WITH_CLOSURE:
        why = f"leaves no process the whole gradient that {kind} multiplies with others: optimizer=adamw"
    elif target in COMPOSED:
        why = f"leaves no process the whole matrices that {kind} orthogonalises: optimizer=adamw"
    elif target in AVERAGING:
        why = f"does not split the second set of weights that {kind} keeps: optimizer=adamw"
    elif optimizer.get("fused") and target not in _FUSED_ON_PARTS:
        why = f"has no fused kernel of {kind} for split tensors: optimizer.fused=null"
    else:
        return
    raise UserError(f"trainer.shard=true {why}")


def fused_for_parts(optimizer: Mapping[str, Any]) -> bool | None:
    """The setting `fused` where the choice was left to us: off where there is no kernel for split tensors."""
    chosen: bool | None = optimizer.get("fused")
    return chosen if chosen is not None or optimizer["_target_"] in _FUSED_ON_PARTS else False
