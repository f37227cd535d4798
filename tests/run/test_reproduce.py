"""A record that is run again: identical where nothing differs, and what was tampered with is named."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tempo.config.check import check
from tempo.errors import UserError
from tempo.record.run_json import FILE_NAME, RunRecord, config_hash
from tempo.run.reproduce import COMPARISON_FILE, Asked, reproduce
from tempo.run.run_request import RunRequest
from tempo.run.train import run
from tempo.trainer.checkpoint_file import load
from tests.conftest import Train, Trained
from tests.jobs import SMALL, finish, rows_written, signal_at, start_job

TASK = ["trainer.epochs=2", "scheduler=onecycle", "optimizer.lr=0.01", "data.augment.crop_padding=1"]


@pytest.fixture
def recorded(trained_once: Train) -> Trained:
    return trained_once(*TASK, folder="recorded")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def again(folder: Path, **asked: Any) -> tuple[Any, dict[str, Any], Path]:
    """The verdict, what was written of it, and the new folder."""
    out = folder.with_name(f"{folder.name}_again")
    verdict = reproduce(Asked(run=str(folder), **({"out": str(out)} | asked)))
    written = out / COMPARISON_FILE
    return verdict, json.loads(written.read_text()) if written.exists() else {}, out


def changed(trained: Trained, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of the record and its curves, as docs/results has them, with one thing changed."""
    folder = trained.folder.with_name("changed")
    folder.mkdir()
    shutil.copy(trained.folder / "metrics.csv", folder)
    values = json.loads((trained.folder / FILE_NAME).read_text())
    change(values)
    (folder / FILE_NAME).write_text(json.dumps(values))
    return folder


def test_identical_with_the_recorded_threads(train: Train) -> None:
    recorded = train(*TASK, "trainer.threads=2", folder="recorded")
    torch.set_num_threads(1)
    verdict, written, out = again(recorded.folder)
    assert (verdict.word, verdict.exit_code) == ("identical", 0)
    assert written["verdict"] == "identical"
    assert "weights SHA-256" in written["compared"]
    found = RunRecord.read(out)
    assert found.weights_sha256 == recorded.record.weights_sha256
    assert found.environment["threads"]["intra_op"] == 2


def test_another_number_of_threads_is_no_identity_without_evidence(recorded: Trained) -> None:
    verdict, _, out = again(recorded.folder, threads=2)
    same_weights = RunRecord.read(out).weights_sha256 == recorded.record.weights_sha256
    assert verdict.causes == ["threads.intra_op: 1 -> 2"]
    assert verdict.word == ("identical" if same_weights else "same within")
    assert "threads.intra_op: 1 -> 2" in verdict.line()


def loss(values: dict[str, Any]) -> None:
    values["metrics"]["test"]["loss"] += 1e-9


def weights(values: dict[str, Any]) -> None:
    values["weights_sha256"] = "0" * 64


def rate(values: dict[str, Any]) -> None:
    values["config"]["optimizer"]["lr"] = 0.2


@pytest.mark.parametrize(
    ("change", "first"),
    [
        (loss, "metrics.test.loss"),
        (weights, "weights_sha256"),
        (rate, "config.optimizer.lr as the recorded overrides make it is 0.01, recorded 0.2"),
    ],
)
def test_a_record_that_was_tampered_with_is_different(
    change: Callable[[dict[str, Any]], None], first: str, recorded: Trained
) -> None:
    verdict, written, _ = again(changed(recorded, change))
    assert verdict.exit_code == 4
    assert written["first_differences"][0].startswith(first)
    assert verdict.line().startswith(f"different: {first}")


def test_a_changed_row_is_named_by_its_step(recorded: Trained) -> None:
    folder = changed(recorded, lambda values: None)
    lines = (folder / "metrics.csv").read_text().splitlines()
    cells = lines[2].split(",")
    cells[5] = "1.25"
    (folder / "metrics.csv").write_text("\n".join([*lines[:2], ",".join(cells), *lines[3:]]) + "\n")
    verdict, _, _ = again(folder)
    assert verdict.exit_code == 4
    assert verdict.differences[0].where == f"metrics.csv, step {cells[0]}, train/loss"
    assert verdict.differences[0].recorded == 1.25


def test_other_images_are_not_trained_on(recorded: Trained) -> None:
    folder = changed(recorded, lambda values: values["data"].update(sha256="0" * 64))
    verdict, _, out = again(folder)
    assert verdict.exit_code == 4
    assert verdict.differences[0].where == "data.sha256"
    assert not out.exists()


def test_a_diverged_run_diverges_again(train: Train) -> None:
    recorded = train("optimizer.lr=1e6", "trainer.epochs=3", "trainer.log_every_n_steps=1", folder="recorded")
    assert recorded.record.status == "diverged"
    verdict, _, out = again(recorded.folder)
    assert (verdict.word, RunRecord.read(out).reason) == ("identical", recorded.record.reason)
    later = recorded.record.reason.replace("at step ", "at step 1")
    folder = changed(recorded, lambda values: values.update(reason=later))
    verdict, _, _ = again(folder)
    assert verdict.exit_code == 4
    assert "the step of the divergence" in verdict.line()


def test_a_stopped_run_is_run_to_where_it_was_stopped(tmp_path: Path, train: Train) -> None:
    """A run that SIGTERM has stopped has no tested weights: its last checkpoint stands for them."""
    folder = tmp_path / "stopped"
    steps = ["trainer.log_every_n_steps=1", "trainer.steps_per_call=1", "trainer.epochs=200"]
    process = start_job(folder, [*SMALL, *steps])
    assert signal_at(process, lambda: rows_written(folder) >= 8, signal.SIGTERM)
    assert finish(process) == 130
    record = RunRecord.read(folder)
    verdict, _, out = again(folder)
    assert verdict.word == "identical", verdict.line()
    assert "last.ckpt" in verdict.compared
    assert (RunRecord.read(out).steps, RunRecord.read(out).status) == (record.steps, "interrupted")

    path = folder / "checkpoints" / "last.ckpt"
    state = load(path)
    name = sorted(state["state_dict"])[-1]
    state["state_dict"][name] += 1
    torch.save(state, path)
    shutil.rmtree(out)
    verdict, _, out = again(folder)
    assert verdict.exit_code == 4
    assert verdict.line().startswith(f"different: last.ckpt, {name}")

    record.status = "running"  # as a kill would have left it
    record.write(folder)
    shutil.rmtree(out)
    verdict, _, out = again(folder)
    assert verdict.word == "identical", verdict.line()
    assert "last.ckpt" not in verdict.compared


def test_a_run_that_was_stopped_while_it_was_tested(recorded: Trained) -> None:
    """All its steps are there: the new run ends as completed, and there is a verdict on what both have."""
    folder = recorded.folder
    stopped = {"status": "interrupted", "reason": "SIGTERM", "weights_sha256": "", "n_evaluated": 0}
    values = json.loads((folder / FILE_NAME).read_text()) | stopped
    (folder / FILE_NAME).write_text(json.dumps(values))
    verdict, _, out = again(folder)
    assert verdict.word == "identical", verdict.line()
    assert "last.ckpt" in verdict.compared
    shutil.rmtree(out)
    (folder / FILE_NAME).write_text(json.dumps(values | {"steps": 10**9}))
    verdict, _, _ = again(folder)
    assert verdict.line().startswith("different: steps is 10, recorded 1000000000")


def test_a_run_that_its_search_has_given_up_is_run_to_that_epoch(recorded: Trained) -> None:
    folder = recorded.folder.with_name("given_up")
    first = reproduced_until(recorded.folder, 5, folder)
    pruned = dataclasses.replace(first, status="pruned", reason="stopped after epoch 1 of 2 by median")
    pruned.write(folder)
    verdict, _, out = again(folder)
    assert verdict.word == "identical", verdict.line()
    assert "last.ckpt" in verdict.compared
    assert RunRecord.read(out).steps == 5


def reproduced_until(folder: Path, step: int, out: Path) -> RunRecord:
    """The same run, ended after a step."""
    record = RunRecord.read(folder)
    out.mkdir()
    job = RunRequest(
        config=check(record.config), folder=out, overrides=record.overrides, choices={}, stop_after=step
    )
    return run(job)


def test_a_line_to_copy_is_no_command_of_a_stranger(
    recorded: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "x; touch evil #"
    folder = changed(recorded, lambda values: values["git"].update(commit="0" * 40, diff=evil))
    (folder / evil).touch()
    again(folder)
    said = capsys.readouterr().out
    assert f"git checkout {'0' * 40} && git apply '{folder / evil}'" in said
    shutil.rmtree(folder)
    shutil.rmtree(folder.with_name("changed_again"))
    again(changed(recorded, lambda values: values["git"].update(commit=evil)))
    assert "git checkout" not in capsys.readouterr().out


def test_a_record_without_checkpoints_and_without_a_key_of_today(recorded: Trained) -> None:
    """As in docs/results; keys that were added since take their default values."""

    def old(values: dict[str, Any]) -> None:
        del values["config"]["trainer"]["steps_per_call"]
        values["config_hash"] = config_hash({k: v for k, v in values["config"].items() if k != "resume"})

    verdict, _, out = again(changed(recorded, old))
    assert verdict.word == "identical"
    assert RunRecord.read(out).config["trainer"]["steps_per_call"] == "auto"


def test_what_is_refused(recorded: Trained, tmp_path: Path) -> None:
    def refused(words: str, change: Callable[[dict[str, Any]], None], **asked: Any) -> None:
        folder = changed(recorded, change)
        with pytest.raises(UserError, match=words):
            again(folder, **asked)
        assert sorted(path.name for path in folder.iterdir()) == ["metrics.csv", FILE_NAME]
        assert not folder.with_name("changed_again").exists()
        shutil.rmtree(folder)

    def foreign(values: dict[str, Any]) -> None:
        values["config"]["model"]["_target_"] = "os.system"

    def flag(values: dict[str, Any]) -> None:
        values["overrides"] = ["--experimental-rerun=x.pickle"]

    def unknown(values: dict[str, Any]) -> None:
        values["config"]["trainer"]["colour"] = "red"

    def failed(values: dict[str, Any]) -> None:
        values |= {"status": "failed", "reason": "ValueError: x"}

    def rows(values: dict[str, Any]) -> None:
        with (tmp_path / "changed" / "metrics.csv").open("a") as file:
            file.write("inf" + 10 * "," + "\n")

    refused("not named in conf/model", foreign)
    refused("a row has no step", rows)
    refused("is interrupted before its first step", lambda v: v.update(status="interrupted", steps=-5))
    for tolerance in (-1e-9, 1.5, float("nan"), float("inf")):
        refused(r"is not a relative difference in \[0, 1\]", lambda v: None, tolerance=tolerance)
    refused("which no run records", flag)
    refused("trainer.colour is not a key.*the record is of commit", unknown)
    refused("failed .ValueError: x. and has no result", failed)
    refused("is interrupted before its first step", lambda v: v.update(status="interrupted", steps=0))
    refused("is the recorded run itself", lambda v: None, out=str(tmp_path / "changed"))
    refused("already contains a completed run", lambda v: None, out=str(recorded.folder))
    refused("trainer.threads=0", lambda v: None, threads=0)
    with pytest.raises(UserError, match=r"has no run\.json"):
        reproduce(Asked(run=str(tmp_path)))


def test_a_strangers_record_prints_nothing_but_text(
    recorded: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    again(changed(recorded, lambda values: values["versions"].update(torch="\x1b]0;owned\x07")))
    assert "\x1b]0;" not in capsys.readouterr().out
