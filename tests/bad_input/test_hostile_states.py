"""Checkpoints of plain values that say other things than a run's would: one line, and no memory filled."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tempo.errors import UserError
from tempo.trainer.checkpoint_file import load
from tempo.trainer.saved_state import check_state
from tests.bad_input.conftest import SMALL, assert_refused, edit
from tests.bad_input.warm import Warm

LOOPS = ("loops", "fit_loop", "epoch_loop.manual_optimization.optim_step_progress", "total", "completed")
STOPPING = ("callbacks", "EarlyStopping{'monitor': 'val/accuracy', 'mode': 'max'}")
# Entries of a checkpoint that say other things than ours would; the state is passed over.
STATES: list[tuple[tuple[str, ...], Any]] = [
    (("callbacks",), None),
    (("callbacks",), [1]),
    (("callbacks",), {"Recorder": 3}),
    (("callbacks", "Recorder"), {}),
    (("callbacks", "Recorder", "divergence"), {"smoothed": "x", "best": 1.0}),
    (("callbacks", "Recorder", "metrics"), {"val": 3}),
    (("callbacks", "Recorder", "metrics"), {3: {4: 5.0}}),
    (("callbacks", "Recorder", "validated_step"), "x"),
    (("callbacks", "Checkpoints", "best"), [["a", "b"]]),
    (("callbacks", "Checkpoints", "best"), [[0.5]]),
    (("callbacks", "Checkpoints", "best_metrics"), {"loss": "x"}),
    ((*STOPPING, "best_score"), "x"),
    ((*STOPPING, "best_score"), torch.zeros(9)),
    (("loops",), None),
    (LOOPS, "x"),
    (LOOPS, 10**9),
    (LOOPS, -3),
    (("global_step",), 1.5),
    (("window",), {"loss": ["x"], "accuracy": []}),
    (("evaluations",), None),
    (("config_hash",), [1]),
]
# Those that only Lightning, the network or the optimizer can tell.
MISFITS: list[tuple[tuple[str, ...], Any]] = [
    (("loops",), {"fit_loop": 3}),
    (("loops", "fit_loop", "epoch_progress", "current", "completed"), 10**9),
    (("loops", "fit_loop", "epoch_loop.batch_progress", "is_last_batch"), 5),
    (STOPPING, 3),
    (("optimizer_states",), [{}]),
    (("optimizer_states",), [{"state": {0: {"momentum_buffer": "x"}}, "param_groups": []}]),
    (("lr_schedulers",), 3),
    (("pytorch-lightning_version",), None),
    (("state_dict",), {}),
    (("buffers_of_ranks",), 3),
]


def change(content: dict[str, Any], where: tuple[str, ...], value: Any) -> dict[str, Any]:
    *parents, leaf = where
    node = content
    for each in parents:
        node = node.setdefault(each, {})
    node[leaf] = value
    return content


@pytest.mark.parametrize(("where", "value"), STATES, ids=lambda each: str(each)[-50:])
def test_a_state_of_other_things_is_told(where: tuple[str, ...], value: Any, trained: Path) -> None:
    path = trained / "checkpoints" / "last.ckpt"
    check_state(load(path), path)
    with pytest.raises(UserError, match="is no state of a run: its "):
        check_state(change(load(path), where, value), path)


def test_a_resumed_run_passes_over_a_state_of_other_things(run: Path, heavy: Warm, tmp_path: Path) -> None:
    edit(run, status="interrupted")
    path = run / "checkpoints" / "last.ckpt"
    torch.save(change(load(path), ("callbacks",), {"Checkpoints": [1]}), path)
    done = heavy.call("train.py", f"resume={run}", folder=tmp_path)
    assert done.code == 0, done.err
    assert "Traceback" not in done.out + done.err
    assert "last.ckpt is no state of a run: its callbacks.Recorder" in done.out + done.err


@pytest.mark.parametrize(("where", "value"), MISFITS, ids=lambda each: str(each)[-50:])
def test_a_state_that_does_not_fit_is_one_line(
    where: tuple[str, ...], value: Any, halfway: Path, heavy: Warm, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(halfway, tmp_path / "run"))
    path = run / "checkpoints" / "last.ckpt"
    torch.save(change(load(path), where, value), path)
    done = heavy.call("train.py", f"resume={run}", folder=tmp_path)
    assert_refused(done)
    assert "last.ckpt (" in done.err
    assert "the run cannot continue from" in done.err
    assert "remove it to go on from the one before it, or start a new run without resume=" in done.err


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


def test_a_checkpoint_that_would_fill_the_memory(trained: Path, tmp_path: Path) -> None:
    """Gigabytes of zeros as a megabyte, and a billion entries as sixty."""
    packed, whole = tmp_path / "packed.ckpt", tmp_path / "whole.ckpt"
    torch.save({"state_dict": {"w": torch.zeros(1_000_000)}}, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for each in source.infolist():
            target.writestr(each.filename, source.read(each))
    assert packed.stat().st_size < whole.stat().st_size / 100
    with pytest.raises(UserError, match=r"packed\.ckpt is no checkpoint of a run: it is compressed"):
        load(packed)
    node: dict[str, Any] = {}
    for _ in range(60):
        node = {"a": node, "b": node}
    path = trained / "checkpoints" / "last.ckpt"
    for where in (("callbacks",), ("callbacks", "Nothing"), ("callbacks", "Recorder", "metrics"), ("loops",)):
        with pytest.raises(UserError, match="is no state of a run"):
            check_state(change(load(path), where, node), path)
