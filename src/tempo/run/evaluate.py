"""Test a finished run again with its own configuration and checkpoint."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from tempo.config.check import check
from tempo.config.recorded_config import completed, with_data_root
from tempo.config.schema import RunConfig
from tempo.data.run_data_module import RunDataModule
from tempo.errors import UserError
from tempo.record.atomic_write import write_atomically
from tempo.record.foreign_folder import check_foreign_config
from tempo.record.metric_names import is_share
from tempo.record.run_json import RunRecord
from tempo.run.build_data import build_data, build_data_and_unused, build_plan
from tempo.run.build_module import build_task, connect_data
from tempo.run.build_trainer import build_trainer, check_devices
from tempo.run.check_own_module import overrides_hook
from tempo.run.load_run import load_state
from tempo.trainer.checkpoint_file import load, named_checkpoint, tested_checkpoint, weights_sha256
from tempo.trainer.console import console
from tempo.trainer.process_settings import quiet

_TOLERANCE = 1e-6
"""Relative tolerance: a network computes an image's loss slightly differently in batches of another size."""


@dataclass(frozen=True)
class Evaluation:
    """Result of a test; `against_record` says how it compares with the record."""

    metrics: dict[str, float]
    images: int
    weights_sha256: str
    against_record: str

    def to_json(self) -> str:
        """Return the result as flat JSON, the metrics by their names."""
        facts = {"images": self.images, "weights_sha256": self.weights_sha256}
        return json.dumps({**self.metrics, **facts, "against_record": self.against_record}, indent=2) + "\n"


def evaluate_from_hydra(config: DictConfig) -> None:
    """Evaluate a run as set in conf/evaluate.yaml and the overrides, and print the result."""
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    folder = Path(values["run"]).expanduser().absolute()
    root = values["data"]["root"]
    result = evaluate(
        folder,
        checkpoint=str(values["checkpoint"]),
        accelerator=str(values["accelerator"]),
        data_root=None if root is None else str(root),
    )
    console().print(
        f"{folder.name}: {result.images:,} test images, {_shown(result.metrics)} ({result.against_record})"
    )
    try:
        write_atomically(folder / "evaluation.json", result.to_json())
    except OSError as error:  # another user's run can be tested even if its folder is read-only
        console().print(f"not written: {folder / 'evaluation.json'}: {error.strerror}")


def evaluate(
    folder: Path, *, checkpoint: str = "tested", accelerator: str = "auto", data_root: str | None = None
) -> Evaluation:
    """Test a checkpoint of a run on its official test set, which is read from `data_root` if that is given.

    Raises:
        UserError: the folder has no run, no such checkpoint or names foreign code, or the test images are
            not those of the run.
    """
    if accelerator not in ("auto", "cpu", "gpu", "mps"):
        raise UserError(f"accelerator={accelerator} is unknown; choose from: auto, cpu, gpu, mps")
    record = RunRecord.read(folder)
    config = _config_for_a_test(folder, record, accelerator, data_root)
    content = load(named_checkpoint(folder, checkpoint, record))
    data = build_data(config)
    _check_same_images(record, data)
    found, fingerprint = _test(folder, content, config, data, record.steps)
    return Evaluation(
        metrics=dict(found),
        images=data.sizes["test"],
        weights_sha256=fingerprint,
        against_record=_against_record(record, found, fingerprint),
    )


def evaluate_unused(folder: Path, most: int) -> dict[str, float]:
    """Test a run's own state on images that it neither trained nor validated on, and that are no test images.

    Return `loss`, `accuracy` and the number of `images`, at most `most`.

    Raises:
        UserError: an error of `evaluate`.
    """
    record = RunRecord.read(folder)
    config = _config_for_a_test(folder, record, record.config["trainer"]["accelerator"])
    content = load(tested_checkpoint(folder, record))
    data, unused = build_data_and_unused(config, most)
    _check_same_images(record, data)
    data.test = unused
    found, _ = _test(folder, content, config, data, record.steps)
    return {**found, "images": float(len(unused))}


def _config_for_a_test(
    folder: Path, record: RunRecord, accelerator: str, data_root: str | None = None
) -> RunConfig:
    """Return a run's configuration for a test in one process."""
    check_foreign_config(record.config)
    values = completed(record, folder)
    if data_root is not None:
        values = with_data_root(values, record, data_root)
    config = check(values).with_trainer(
        accelerator=accelerator,
        devices=1,
        num_nodes=1,
        profiler=None,
        compile=False,
        cuda_graph=False,
        flags=None,
    )
    check_devices(config)
    return config


def _check_same_images(record: RunRecord, data: RunDataModule) -> None:
    if record.data and data.sha256 != record.data.get("sha256"):
        raise UserError(
            f"the data are not those of the run (SHA-256 {data.sha256[:12]}, recorded "
            f"{str(record.data.get('sha256'))[:12]}); name the folder of its data: data.root=<folder>"
        )


def _test(
    folder: Path, content: dict[str, Any], config: RunConfig, data: RunDataModule, steps: int
) -> tuple[Mapping[str, float], str]:
    """Return what a checkpoint's `content` reaches on the test set, and the fingerprint of its weights.

    `steps` are those of the whole run: what a test draws depends on them.
    """
    quiet()
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    plan = build_plan(config, data, world_size=1, rank=0)
    task = build_task(config, data, plan)
    module = task.module
    if not (data.has_test and overrides_hook(module, "test_step")):
        raise UserError(f"{folder.name} has no test: its data have no test set, or its module no test_step")
    if config.trainer.precision == "64-true":
        module.double()  # before it loads the weights, which float32 would round
    try:
        load_state(module, content)
    except RuntimeError as error:
        raise UserError(f"the checkpoint does not fit model {config.model.target}: {error}") from error
    trainer = build_trainer(config, folder, plan, task.first_callbacks, [], module)
    connect_data(config, data, task)
    task.progress.steps_done = steps
    trainer.test(module, datamodule=data, verbose=False)
    return task.progress.evaluated, weights_sha256(task.tested_network)


def _shown(metrics: Mapping[str, float]) -> str:
    return ", ".join(
        f"{name} {100 * value:.2f} %" if is_share(name) else f"{name} {value:.6f}"
        for name, value in metrics.items()
    )


def _against_record(record: RunRecord, found: Mapping[str, float], fingerprint: str) -> str:
    recorded = record.metrics.get("test")
    if recorded is None or not recorded.keys() >= found.keys():
        return "the record has no test"
    if fingerprint != record.weights_sha256:
        return "other weights than the record's test"
    if all(recorded[name] == value for name, value in found.items()):
        return "the record's numbers"
    equal = [name for name, value in found.items() if recorded[name] == value]
    close = {name: value for name, value in found.items() if name not in equal}
    counted = "accuracy" in close  # right answers are whole numbers
    if not counted and all(
        math.isclose(recorded[name], value, rel_tol=_TOLERANCE) for name, value in close.items()
    ):
        same = f"{' and '.join(equal)}; its " if equal else ""
        return f"the record's {same}{' and '.join(close)} to {_TOLERANCE:g}, computed in other batches"
    return "NOT the record's numbers"
