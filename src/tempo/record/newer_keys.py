"""Keys that records of earlier versions lack, and what their absence means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NEWER_KEYS = {
    "tags": None,
    "data.label_separator": None,
    "data.layout": "auto",
    "data.background": "white",
    "data.fold": None,
    "data.folds": None,
    "data.max_megapixels": 89,
    "data.num_workers": None,
    "data.store": "memory",
    "data.transform": None,
    "data.eval_transform": None,
    "data.mixup": None,
    "data.cutmix": None,
    "data.resume": "exact",
    "data.low_resolution": None,
    "data.low_resolution_until": 0.5,
    "ema.warmup": False,
    "init.ignore": None,
    "init.whiten": None,
    "init.dirac": False,
    "model.freeze": None,
    "model.norm_scale": None,
    "optimizer.layer_decay": None,
    "optimizer.lr_of": None,
    "optimizer.lr_of_biases": None,
    "objective_mode": "auto",
    "metrics": None,
    "callbacks": None,
    "trainer.flags": None,
    "trainer.wrong_images": 24,
    "loss": {"_target_": "tempo.task.losses.CrossEntropy", "label_smoothing": 0.0, "weights": None},
}
"""Keys that records of earlier versions lack, and the value that their absence means."""


def without_newer_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration without keys that mean the same as their absence in an older record."""
    result = dict(config)
    for dotted, value in NEWER_KEYS.items():
        name, _, key = dotted.rpartition(".")
        node = result.get(name) if name else result
        unused = dotted == "ema.warmup" and isinstance(node, Mapping) and node.get("decay") is None
        if isinstance(node, Mapping) and key in node and (unused or node[key] == value):
            kept = {inner: kept for inner, kept in node.items() if inner != key}
            result = {**result, name: kept} if name else kept
            if not result.get(name, True):  # a section that is newer as a whole
                del result[name]
    return result
