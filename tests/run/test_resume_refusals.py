"""What a run may not be resumed with, and what is only logged."""

from __future__ import annotations

import os

import pytest

from tempo.errors import UserError
from tempo.record.folder_lock import FolderLock
from tests.conftest import Train
from tests.run.test_resume import copy_as_running


def test_other_images_are_refused(train: Train, trained_once: Train) -> None:
    done = trained_once("trainer.epochs=1", folder="done")
    folder = copy_as_running(done, "running", data={**done.record.data, "sha256": "0" * 64})
    for _ in range(2):  # a refusal does not forget what the images were
        with pytest.raises(UserError, match="the data are not those that the run started with"):
            train("trainer.epochs=1", f"resume={folder}", folder="running")


def test_changed_conditions_are_logged(
    train: Train, trained_once: Train, caplog: pytest.LogCaptureFixture
) -> None:
    done = trained_once("trainer.epochs=1", folder="done")
    assert "different conditions" not in caplog.text
    train("trainer.epochs=1", f"resume={copy_as_running(done, 'same')}", folder="same")
    assert "different conditions" not in caplog.text
    versions = {**done.record.versions, "torch": "1.0"}
    surroundings = done.record.environment | {"threads": {"intra_op": 7, "inter_op": 7}}
    folder = copy_as_running(done, "other", versions=versions, environment=surroundings, device="abacus")
    train("trainer.epochs=1", f"resume={folder}", folder="other")
    assert "different conditions, results may not be bit-identical: torch: 1.0 -> " in caplog.text
    assert "bit-identical: threads.intra_op: 7 -> 1" in caplog.text
    assert "bit-identical: device: abacus -> " in caplog.text


def test_what_may_not_be_resumed(train: Train, trained_once: Train) -> None:
    done = trained_once("trainer.epochs=1", folder="done")
    before = (done.folder / "run.json").read_bytes()
    for epochs in (1, 2):  # as long as it was, and longer
        with pytest.raises(UserError, match="completed after 5 steps") as caught:
            train(f"trainer.epochs={epochs}", f"resume={done.folder}", folder="done")
        for way in ("another trainer.epochs", f"init_from={done.folder} scheduler=...", "optimizer.lr=0.1)"):
            assert way in str(caught.value)
    assert (done.folder / "run.json").read_bytes() == before, "the record of a finished run was touched"
    folder = copy_as_running(done, "running")
    for change, words in (
        ("trainer.epochs=2", ["trainer.epochs was 1 when the run began and is now 2"]),
        ("optimizer.lr=0.2", ["and is now 0.2", "leave optimizer.lr out"]),
        ("model.hidden=[8]", ["model.hidden"]),
        ("optimizer=adam", ["optimizer."]),
        ("seed=1", ["seed was 0", "is now 1"]),
    ):
        before = (folder / "run.json").read_bytes()
        with pytest.raises(UserError) as caught:
            train("trainer.epochs=1", change, f"resume={folder}", folder="running")
        for word in words:
            assert word in str(caught.value)
        assert (folder / "run.json").read_bytes() == before, "a refused resume has changed the record"
    for overrides in ([f"resume={folder}"], ["trainer.devices=2"]):
        with (
            FolderLock(folder, what="another run", remedy="wait"),
            pytest.raises(
                UserError, match=rf"another run is already running in .* \(process {os.getpid()}\)"
            ),
        ):
            train("trainer.epochs=1", *overrides, folder="running")
