"""Test a run that is over: same configuration, same state, same numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tempo import compose
from tempo.config import check
from tempo.errors import UserError, nearest
from tempo.paths import ROOT
from tempo.record import RunRecord, write_atomically
from tempo.trainer.checkpoints import BEST, LAST, load
from tempo.trainer.console import console
from tempo.trainer.final_state import weights_sha256
from tempo.trainer.quiet import quiet


@dataclass(frozen=True)
class Evaluation:
    """What a test gave; `same` says whether the record has these very numbers (None: it has none)."""

    loss: float
    accuracy: float
    images: int
    weights_sha256: str
    same: bool | None


def evaluate_from_hydra(config: DictConfig) -> None:
    """Evaluate as conf/evaluate.yaml and the overrides say, and print the result."""
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    folder = Path(values["run"]).expanduser().absolute()
    result = evaluate(folder, checkpoint=str(values["checkpoint"]), accelerator=str(values["accelerator"]))
    words = {True: "the record's numbers", False: "NOT the record's numbers", None: "the record has no test"}
    console().print(
        f"{folder.name}: {result.images:,} test images, loss {result.loss:.6f}, "
        f"accuracy {100 * result.accuracy:.2f} % ({words[result.same]})"
    )
    write_atomically(folder / "evaluation.json", json.dumps(result.__dict__, indent=2) + "\n")


def evaluate(folder: Path, *, checkpoint: str = "tested", accelerator: str = "auto") -> Evaluation:
    """Test the state of a run's folder on its official test set.

    Raises:
        UserError: no run there, no such checkpoint, a `_target_` that conf/ does not name, or the
            test images are not those of the run.
    """
    if accelerator not in ("auto", "cpu", "gpu", "mps"):
        raise UserError(f"accelerator={accelerator} is unknown: accelerator=auto, cpu, gpu or mps")
    record = RunRecord.read(folder)
    _check_targets(record.config)
    check(record.config)
    trainer = {**record.config["trainer"], "accelerator": accelerator, "devices": 1, "num_nodes": 1}
    config = {**record.config, "trainer": {**trainer, "profiler": None, "compile": False}}
    quiet()
    content = load(_checkpoint_file(folder, checkpoint, record))
    data = compose.build_data(config)
    if record.data and data.sha256 != record.data.get("sha256"):
        raise UserError(
            f"the images are not those of the run (SHA-256 {data.sha256[:12]}, recorded "
            f"{str(record.data.get('sha256'))[:12]}): give the run's own data, e.g. by TEMPO_DATA"
        )
    plan = compose.build_plan(config, len(data.train), world_size=1, rank=0)
    module = compose.build_module(config, data, plan)
    try:
        module.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        raise UserError(
            f"the checkpoint does not fit model {record.config['model']['_target_']}: {error}"
        ) from error
    runner = compose.build_trainer(config, folder, plan, [], [])
    runner.test(module, compose.build_eval_batches(config, data.test, plan), verbose=False)
    found = module.evaluated
    recorded = record.metrics.get("test")
    fingerprint = weights_sha256(module.tested_network)
    same = None
    if recorded and fingerprint == record.weights_sha256:
        same = recorded["accuracy"] == found["accuracy"] and recorded["loss"] == found["loss"]
    return Evaluation(found["loss"], found["accuracy"], int(found["images"]), fingerprint, same)


def _checkpoint_file(folder: Path, checkpoint: str, record: RunRecord) -> Path:
    if checkpoint == "tested":
        chosen = record.config["checkpoint"]["select"]
        path = folder / "checkpoints" / (BEST if chosen == "best" else LAST)
        return path if path.exists() else folder / "checkpoints" / LAST
    if checkpoint in ("best", "last"):
        return folder / "checkpoints" / f"{checkpoint}.ckpt"
    path = Path(checkpoint).expanduser()
    if not path.exists():
        hint = nearest(checkpoint, ("tested", "best", "last"))
        raise UserError(f"checkpoint={checkpoint} is neither tested, best or last, nor a file.{hint}")
    return path


def _check_targets(config: Mapping[str, Any]) -> None:
    """A run's folder may come from a stranger: it may name what conf/ names, and torch's optimizers."""
    for where, target in _targets(config, ""):
        group = where.partition(".")[0]
        known = [
            str(found)
            for path in sorted((ROOT / "conf" / group).glob("*.yaml"))
            for found in re.findall(r"^_target_: (\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        ]
        optimizer = group == "optimizer" and re.fullmatch(r"torch\.optim\.[A-Z]\w*", str(target))
        if where != f"{group}._target_" or not (optimizer or target in known):
            raise UserError(
                f"config.{where}={target} is named by no conf/{group}/*.yaml: a run's folder may name no "
                "other code; if you trust it, add that file"
            )


def _targets(node: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Where each `_target_` of a configuration stands, and what it says."""
    prefix = f"{where}." if where else ""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "_target_":
                yield f"{prefix}_target_", value
            else:
                yield from _targets(value, f"{prefix}{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _targets(value, f"{prefix}{index}")
