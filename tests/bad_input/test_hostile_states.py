"""Checkpoints of plain values that a run would not have written: one line, and no memory filled."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tempo.errors import UserError
from tempo.trainer.checkpoint_file import load
from tests.bad_input.conftest import SMALL, assert_refused, edit
from tests.bad_input.warm import Warm

STEPS = ("loops", "fit_loop", "epoch_loop.manual_optimization.optim_step_progress", "total", "completed")
STOPPING = ("callbacks", "EarlyStopping{'monitor': 'val/accuracy', 'mode': 'max'}")
# A run that finds these entries in its last checkpoint resumes from the one before.
SKIPPED: list[tuple[tuple[str, ...], Any]] = [
    (("callbacks",), [1]),
    (("callbacks",), {"Checkpoints": [1]}),
    (("config_hash",), [1]),
]
# These are found when the callbacks, Lightning, the network or the optimizer load them.
REFUSED: list[tuple[tuple[str, ...], Any]] = [
    (("callbacks", "Recorder"), {"train_seconds": "x"}),
    (("callbacks", "Recorder", "divergence"), {"smoothed": "x", "best": 1.0}),
    (("callbacks", "Recorder", "metrics"), {"val": 3}),
    (("callbacks", "Checkpoints", "best"), [["a", "b"]]),
    (STOPPING, 3),
    ((*STOPPING, "best_score"), "x"),
    (STEPS, "x"),
    (STEPS, 10**9),
    (("global_step",), 1.5),
    (("window",), {"loss": ["x"], "accuracy": []}),
    (("evaluations",), None),
    (("loops",), {"fit_loop": 3}),
    (("loops", "fit_loop", "epoch_progress", "current", "completed"), 10**9),
    (("loops", "fit_loop", "epoch_loop.batch_progress", "is_last_batch"), 5),
    (("optimizer_states",), [{"state": {0: {"momentum_buffer": "x"}}, "param_groups": []}]),
    (("pytorch-lightning_version",), None),
    (("state_dict",), {}),
    (("buffers_of_ranks",), 3),
]


def change(path: Path, where: tuple[str, ...], value: Any) -> None:
    """Write another value into a checkpoint."""
    content = load(path)
    *parents, leaf = where
    node = content
    for key in parents:
        node = node.setdefault(key, {})
    node[leaf] = value
    torch.save(content, path)


@pytest.fixture(scope="module")
def halfway(heavy: Warm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as if it had been killed before its last step."""
    run = tmp_path_factory.mktemp("halfway") / "run"
    given = [*SMALL[:-1], "trainer.max_steps=4", "checkpoint.every_n_steps=1", "trainer.steps_per_call=1"]
    given += ["early_stopping.patience=9", f"hydra.run.dir={run}"]
    done = heavy.call("train.py", *given, folder=run.parent)
    assert done.code == 0, done.err
    checkpoints = run / "checkpoints"
    (checkpoints / "last.ckpt").unlink()
    shutil.copy(checkpoints / "previous.ckpt", checkpoints / "last.ckpt")
    edit(run, status="interrupted")
    return run


@pytest.fixture
def copy(halfway: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(halfway, tmp_path / "run"))


@pytest.mark.parametrize(("where", "value"), SKIPPED, ids=lambda part: str(part)[-50:])
def test_a_state_of_another_program_is_skipped(
    where: tuple[str, ...], value: Any, copy: Path, heavy: Warm, tmp_path: Path
) -> None:
    change(copy / "checkpoints" / "last.ckpt", where, value)
    done = heavy.call("train.py", f"resume={copy}", folder=tmp_path)
    assert done.code == 0, done.err
    output = done.out + done.err
    assert "Traceback" not in output
    assert (
        "last.ckpt is not a checkpoint of a run" in output or "last.ckpt belongs to configuration" in output
    )


@pytest.mark.parametrize(("where", "value"), REFUSED, ids=lambda part: str(part)[-50:])
def test_a_state_that_does_not_fit_is_one_line(
    where: tuple[str, ...], value: Any, copy: Path, heavy: Warm, tmp_path: Path
) -> None:
    change(copy / "checkpoints" / "last.ckpt", where, value)
    done = heavy.call("train.py", f"resume={copy}", folder=tmp_path)
    assert_refused(done)
    assert "last.ckpt (" in done.err
    assert "remove it to resume from the checkpoint before it, or start a new run without resume=" in done.err


def test_a_checkpoint_that_would_fill_the_memory(copy: Path, heavy: Warm, tmp_path: Path) -> None:
    """Gigabytes of zeros packed into a megabyte, and a billion entries into sixty."""
    packed, whole = tmp_path / "packed.ckpt", tmp_path / "whole.ckpt"
    torch.save({"state_dict": {"w": torch.zeros(1_000_000)}}, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    assert packed.stat().st_size < whole.stat().st_size / 100
    with pytest.raises(UserError, match=r"packed\.ckpt is not a checkpoint of a run: it is compressed"):
        load(packed)
    node: dict[str, Any] = {}
    for _ in range(60):
        node = {"a": node, "b": node}
    change(copy / "checkpoints" / "last.ckpt", ("callbacks", "Recorder", "metrics"), node)
    assert_refused(heavy.call("train.py", f"resume={copy}", folder=tmp_path))
