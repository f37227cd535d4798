"""Weights & Biases and MLflow with the real packages, offline; `.ci/loggers` installs them for this file."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.loggers import CSVLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tempo.trainer.loggers import FOLDER, keep_failures_from_run
from tests.conftest import Train


class Broken(CSVLogger):
    """A logger whose server is away."""

    calls = 0

    def log_metrics(self, *_: Any, **__: Any) -> None:
        self.calls += 1
        raise ConnectionError("no route\nto host")


def test_a_logger_that_fails_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logger = Broken(str(tmp_path))
    with caplog.at_level(logging.WARNING, logger="tempo"):
        kept = keep_failures_from_run(logger, "mine")
        for step in range(3):
            kept.log_metrics({"x": 1.0}, step=step)
        kept.finalize("success")
    assert kept is logger
    assert logger.calls == 1
    assert [record.getMessage() for record in caplog.records] == [
        "logger.mine failed (no route to host); the run goes on without it"
    ]


def test_tensorboard_has_the_confusion_matrix_and_wrong_images(train: Train) -> None:
    run = train("trainer.max_steps=3", "tags=[first]", pictures=True)
    assert run.record.config["tags"] == ["first"]
    images = EventAccumulator(str(run.folder / FOLDER)).Reload().Tags()["images"]
    kept = json.loads((run.folder / "test_images.json").read_text())["wrong"]
    assert "test/confusion" in images
    assert len(images) == 1 + len(kept) > 1


@pytest.mark.filterwarnings("ignore")
def test_wandb_and_mlflow_at_once_and_nothing_outside_the_run(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    tracking = pytest.importorskip("mlflow.tracking")
    pytest.importorskip("sqlalchemy")
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    (tmp_path / "grid").mkdir()
    (tmp_path / "grid" / "sweep.json").write_text("{}")
    uri = f"sqlite:///{tmp_path}/grid/mlflow.db"
    chosen = ["logger=[wandb,mlflow]", f"logger.mlflow.tracking_uri={uri}", "logger.mlflow.artifacts=true"]
    # No login: the run must not ask for one, and is logged offline. Two runs, as of a sweep in one process.
    short = ["trainer.max_steps=3", "tags=[first]", *chosen]
    runs = [train(*short, f"seed={seed}", folder=f"grid/seed={seed}", pictures=True) for seed in (0, 1)]
    assert wandb.run is None, "a tracked run was left open"
    for run in runs:
        (kept,) = (run.folder / "wandb").glob("offline-run-*")
        assert kept.name.endswith(run.record.run_id)
        content = next(kept.glob("*.wandb")).read_bytes()
        for word in (run.folder.name, "first", "grid", "val/accuracy", "final/test_accuracy"):
            assert word.encode() in content
        assert list(kept.glob("files/media/images/confusion_*.png"))
    assert not [*(tmp_path / "cwd").iterdir()]
    assert not (tmp_path / "home").exists() or not [*(tmp_path / "home").rglob("*.wandb")]

    client = tracking.MlflowClient(uri)
    (experiment,) = [found for found in client.search_experiments() if found.name == "tempo"]
    tracked = client.search_runs([experiment.experiment_id])
    assert {found.info.run_name for found in tracked} == {"seed=0", "seed=1"}
    for found in tracked:
        assert found.info.status == "FINISHED"
        assert found.data.tags["tempo.sweep"] == "grid"
        assert "tempo.tag.first" in found.data.tags
        seed = int(found.data.params["seed"])
        assert found.data.metrics["final/test_accuracy"] == runs[seed].record.metrics["test"]["accuracy"]
        paths = {file.path for file in client.list_artifacts(found.info.run_id)}
        assert paths == {"best.ckpt", "confusion.png", "curves.png", "metrics.csv"}
