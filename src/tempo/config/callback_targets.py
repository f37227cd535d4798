"""Check the callbacks of a configuration, and refuse those that would break a promise of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tempo.config.hydra_targets import check_target
from tempo.config.keys_elsewhere import key_here
from tempo.errors import UserError

_SAVES = "every run saves its checkpoints itself; set checkpoint.keep_best=1 or checkpoint.every_n_steps=100"
_AVERAGES = "the average must be the state that is tested; set ema.decay=0.999, for a network of conf/model"
_PROGRESS = "every run prints its progress itself; leave it out"
_FREEZES = "a run steps the parameters that its optimizer had at the start; leave it out"
_REFUSED = {
    "Checkpoint": _SAVES,
    "ModelCheckpoint": _SAVES,
    "OnExceptionCheckpoint": _SAVES,
    "EarlyStopping": "the tested state would not be recorded; set early_stopping.patience=10",
    "StochasticWeightAveraging": _AVERAGES,
    "WeightAveraging": _AVERAGES,
    "EMAWeightAveraging": _AVERAGES,
    "GradientAccumulationScheduler": "a step has the same batch all along; set trainer.accumulate=2",
    "ProgressBar": _PROGRESS,
    "TQDMProgressBar": _PROGRESS,
    "RichProgressBar": _PROGRESS,
    "BaseFinetuning": _FREEZES,
    "BackboneFinetuning": _FREEZES,
    "BatchSizeFinder": "the batch size is part of the configuration; set data.total_batch_size=128",
    "LearningRateFinder": "it would train before the run; leave it out, and run python src/lr_range.py",
}
"""Classes of Lightning, and why tempo refuses them and their subclasses."""
_LIGHTNING = ("pytorch_lightning", "lightning")


def callback_nodes(callbacks: Any) -> dict[str, Any]:
    """Return the nodes of `callbacks` by dotted key: it may be one node, a list, or a dict of nodes."""
    if callbacks is None:
        return {}
    if isinstance(callbacks, Mapping):
        if "_target_" in callbacks:
            return {"callbacks": callbacks}
        return {f"callbacks.{name}": node for name, node in callbacks.items() if node is not None}
    return {f"callbacks.{index}": node for index, node in enumerate(callbacks)}


def check_callbacks(callbacks: Mapping[str, Any] | Sequence[Any] | None) -> None:
    """Raise UserError if a callback has no `_target_`, cannot be found, or is refused."""
    for where, node in callback_nodes(callbacks).items():
        if not isinstance(node, Mapping) or "_target_" not in node:
            for name, value in node.items() if isinstance(node, Mapping) else ():
                if line := key_here(f"{where}.{name}", value):
                    raise UserError(line)
            raise UserError(
                f"{where}={node!r} has no _target_; set +{where}._target_=<full name of a Callback>, or "
                "callbacks=<option of conf/callbacks>"
            )
        package, _, name = str(node["_target_"]).rpartition(".")
        check_allowed(where, [(package, name)])
        check_target("callbacks", node["_target_"], where=where)


def check_allowed(where: str, classes: Iterable[tuple[str, str]]) -> None:
    """Raise UserError if one of the classes, as (module, name), is refused."""
    for module, name in classes:
        if module.partition(".")[0] in _LIGHTNING and name in _REFUSED:
            raise UserError(f"{where}: {name} cannot be used, because {_REFUSED[name]}")
