"""A user's LightningModule and data: trained, resumed to the bit, evaluated, and refused in one line."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import tempo
from tempo.config.keys_without_effect import keys_without_effect
from tempo.config.run_length import schedule_of
from tempo.errors import UserError
from tempo.record.run_json import RunRecord
from tempo.run.evaluate import evaluate
from tempo.run.export import export
from tempo.run.predict import predict
from tests import own_modules
from tests.conftest import Trained
from tests.jobs import finish, fork_server
from tests.own_jobs import own_config, run_own, run_own_on_ranks, train_in_child

OWN = ("optimizer=own", "scheduler=own", "objective=val/mse")
Train = Callable[..., Trained]


@pytest.fixture
def train_own(tmp_path: Path) -> Iterator[Train]:
    def train(
        model: Any, data: Any, *overrides: str, folder: str = "run", stop_after: int | None = None
    ) -> Trained:
        return run_own(tmp_path / folder, model, data, *overrides, stop_after=stop_after)

    threads = torch.get_num_threads()
    yield train
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def test_a_module_with_its_own_optimizer_is_trained_recorded_and_evaluated(
    train_own: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_modules.Tabular.asked_for_test = 0
    trained = train_own("Regression", "Tabular", *OWN)
    record = trained.record
    assert (record.status, record.steps, record.objective["mode"]) == ("completed", 60, "min")
    assert record.metrics["val"].keys() == record.metrics["test"].keys() == {"mse"}
    assert (
        record.objective["value"]
        == record.metrics["val"]["mse"]
        == min(row["val/mse"] for row in trained.rows() if "val/mse" in row)
    )
    assert own_modules.Tabular.asked_for_test == 1
    columns = {name for row in trained.rows() for name in row}
    assert columns == {"step", "epoch", "seconds", "train/loss", "train/mse", "val/mse"}
    for reader in ("tempo.run.evaluate", "tempo.config.recorded_config"):  # as if conf/ named both classes
        monkeypatch.setattr(f"{reader}.check_foreign_config", lambda config: None)
    again = evaluate(trained.folder)
    assert again.metrics == record.metrics["test"]
    assert again.against_record == "the record's numbers"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stopped_run_ends_in_the_same_bits_and_rows(train_own: Train, workers: int) -> None:
    data = {"_target_": "tests.own_modules.Tabular", "num_workers": workers}
    whole = train_own("Regression", "Tabular", *OWN, folder="whole")
    # 20 and 40 are ends of epochs, where the scheduler that reacts to the validation is updated.
    stops = (20, 27, 40) if workers == 0 else (27,)
    for stop in stops:
        stopped = train_own("Regression", data, *OWN, folder=f"stop{stop}", stop_after=stop)
        assert (stopped.record.status, stopped.record.steps) == ("interrupted", stop)
        resumed = train_own("Regression", data, *OWN, folder=f"stop{stop}")
        assert resumed.record.weights_sha256 == whole.record.weights_sha256
        assert resumed.record.metrics == whole.record.metrics
        assert resumed.curves() == whole.curves()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_run_ends_in_the_same_bits(train_own: Train, tmp_path: Path, workers: int) -> None:
    data = {"_target_": "tests.own_modules.Tabular", "num_workers": workers}
    how = (*OWN, "checkpoint.every_n_steps=5")
    whole = train_own("Regression", "Tabular", *how, folder="whole")
    child = fork_server().Process(
        target=train_in_child,
        args=(str(tmp_path / "killed"), "Regression", data, how, {"TEMPO_TEST_KILL_AT": "27"}),
    )
    child.start()
    assert finish(child) == -signal.SIGKILL
    resumed = train_own("Regression", data, *how, folder="killed")
    assert len(resumed.record.sessions) == 2
    assert resumed.record.weights_sha256 == whole.record.weights_sha256
    assert resumed.curves() == whole.curves()


def test_a_module_without_an_optimizer_gets_the_run_s_with_its_schedule(train_own: Train) -> None:
    how = (
        "optimizer=adam", "scheduler=onecycle", "scheduler.max_lr=0.05", "objective=val/mse",
        "trainer.gradient_clip=1", "trainer.accumulate=2",
    )  # fmt: skip
    whole = train_own("Bare", "Tabular", *how, folder="whole")
    rates = {int(row["step"]): row["lr"] for row in whole.rows() if "lr" in row}
    schedule = schedule_of(own_config("Bare", "Tabular", *how))
    assert whole.record.steps == 60
    assert rates == {step: schedule.at(step - 1, 60)["lr"] for step in rates}
    train_own("Bare", "Tabular", *how, folder="stopped", stop_after=33)
    resumed = train_own("Bare", "Tabular", *how, folder="stopped")
    assert resumed.record.weights_sha256 == whole.record.weights_sha256


def test_a_gan_of_ten_batches_has_ten_steps(train_own: Train) -> None:
    how = (
        "optimizer=own",
        "scheduler=own",
        "objective=val/distance",
        "objective_mode=min",
        "trainer.epochs=1",
    )
    data = {"_target_": "tests.own_modules.Tabular", "items": 160}
    whole = train_own("Gan", data, *how, "trainer.log_every_n_steps=5", folder="whole")
    assert whole.record.steps == 10
    assert whole.record.metrics["train"].keys() == {"g_loss", "d_loss"}
    assert "test" not in whole.record.metrics
    train_own("Gan", data, *how, "trainer.log_every_n_steps=5", folder="stopped", stop_after=4)
    resumed = train_own("Gan", data, *how, "trainer.log_every_n_steps=5", folder="stopped")
    assert resumed.record.weights_sha256 == whole.record.weights_sha256
    assert resumed.curves() == whole.curves()


def test_a_module_of_a_user_trains_on_images_of_tempo(train_own: Train) -> None:
    trained = train_own("ImageModule", None, "optimizer=adam", "objective=val/acc", "optimizer.lr=0.03")
    assert trained.record.steps == 240
    assert trained.record.metrics["val"].keys() == {"loss", "acc"}
    assert trained.record.metrics["test"]["acc"] > 0.5


NETWORK = ("optimizer=momentum", "scheduler=onecycle", "trainer.accumulate=2", "trainer.epochs=2")


def test_a_network_learns_a_user_s_images_to_the_bits_of_the_same_images_in_memory(
    train_own: Train, train: Train
) -> None:
    flip = "data.augment.flip=true"
    fixed = ("trainer.epochs=2", "data.total_batch_size=16", "trainer.log_every_n_steps=7")
    for changes in ((), (flip,)):
        wanted = train(*NETWORK, *fixed, *changes, folder=f"memory{len(changes)}").record
        model = {**wanted.config["model"]}
        forms = ("uint8", "float") if not changes else ("uint8",)
        for form in forms:
            data = {"_target_": "tests.own_modules.Digits", "form": form}
            found = train_own(model, data, *NETWORK, *changes, folder=f"{form}{len(changes)}")
            assert found.record.weights_sha256 == wanted.weights_sha256
            assert found.record.metrics == wanted.metrics
            assert found.record.data["class_names"][3] == "digit 3"
        if not changes:  # stopped within an epoch, and resumed
            stopped = train_own(
                model, {"_target_": "tests.own_modules.Digits"}, *NETWORK, folder="stop", stop_after=7
            )
            assert stopped.record.status == "interrupted"
            data = {"_target_": "tests.own_modules.Digits"}
            ended = train_own(model, data, *NETWORK, folder="stop")
            assert ended.record.weights_sha256 == wanted.weights_sha256


@pytest.mark.parametrize(
    ("data", "overrides", "line"),
    [
        ({"form": "labels"}, (), "the loss compares with one class per image; set loss=bce"),
        ({"form": "triple"}, (), "data: a batch is a list of 3 (float32 [8, 1, 8, 8], float32"),
        ({"classes": 4}, (), "but the data name 4 classes, 0 .. 3"),
        ({"form": "float"}, ("data.augment.flip=true",), "data.augment changes uint8 images"),
        ({}, ("trainer.test_every_n_epochs=1",), "set trainer.test_every_n_epochs=null"),
    ],
)
def test_batches_that_a_network_cannot_learn_are_one_line(
    train_own: Train, train_config: Callable[..., dict[str, Any]], data: Any, overrides: tuple[str], line: str
) -> None:
    node = {"_target_": "tests.own_modules.Digits", **data}
    with pytest.raises(UserError) as refused:
        train_own(train_config("model=mlp")["model"], node, *NETWORK, *overrides)
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_function_may_return_datasets_and_validation_is_cut_from_them(train_own: Train) -> None:
    trained = train_own(
        "Pairs", {"_target_": "tests.own_modules.datasets"}, "optimizer=adam", "objective=val/mse"
    )
    data = trained.record.data
    assert (data["train"], data["val"], data["test"]) == (115, 13, 32)
    assert (data["identity"], data["batches"]) == ("whole", "exact")


@pytest.mark.parametrize("has_state", [False, True])
def test_streams_resume_at_their_position_or_at_the_epoch_s_start(train_own: Train, has_state: bool) -> None:
    data = {"_target_": "tests.own_modules.Streamed", "has_state": has_state}
    how = (*OWN, *(() if has_state else ("data.resume=epoch", "trainer.limit_train_steps=4")))
    whole = train_own("Regression", data, *how, folder="whole")
    assert (whole.record.steps, whole.record.data["batches"]) == (12, "exact" if has_state else "own")
    stopped = train_own("Regression", data, *how, folder="stopped", stop_after=6)
    assert stopped.record.status == "interrupted"
    resumed = train_own("Regression", data, *how, folder="stopped")
    assert resumed.record.weights_sha256 == whole.record.weights_sha256


REFUSED = [
    ("Idle", "Tabular", OWN, "has no training_step|without training_step"),
    ("Silent", "Tabular", OWN, "objective=val/mse is not logged"),
    ("Regression", "Tabular", ("objective=val/mse",), "set optimizer=own scheduler=own"),
    ("Bare", "Tabular", OWN, "set optimizer=adam scheduler=constant"),
    ("Regression", "Weighted", OWN, "WeightedRandomSampler.*data.resume=epoch"),
    ("Regression", "Streamed", OWN, "IterableDataset.*data.resume=epoch"),
    ("Regression", "Tabular", (*OWN, "objective=val/nope", "objective_mode=min"), "set objective=val/mse"),
    ("Regression", "Tabular", (*OWN, "ema.decay=0.9"), "set ema.decay=null"),
    ("Gan", "Tabular", (*OWN, "trainer.accumulate=2"), "set trainer.accumulate=1"),
    ("Regression", "Tabular", (*OWN, "loss=mse"), "loss=SquaredError has no effect.*set loss=cross_entropy"),
    ("Regression", "Tabular", (*OWN, "metrics=[f1]"), "has no effect on Regression.*set metrics=null"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("model", "data", "overrides", "line"), REFUSED, ids=[f"{m}-{d}-{o[-1]}" for m, d, o, _ in REFUSED]
)
def test_what_cannot_be_trained_is_one_line(
    train_own: Train, model: str, data: str, overrides: tuple[str, ...], line: str
) -> None:
    with pytest.raises(UserError, match=line):
        train_own(model, data, *overrides, "trainer.epochs=1")


def test_an_item_that_raises_is_named_and_the_run_goes_on_once_it_is_mended(
    train_own: Train, tmp_path: Path
) -> None:
    data = {"_target_": "tests.own_modules.Tabular", "fails_at": 17}
    for workers in (0, 2):
        with pytest.raises(UserError, match=r"item 17 of the training set \(Drawing\).*this file is torn"):
            train_own("Regression", {**data, "num_workers": workers}, *OWN, folder=f"workers{workers}")
        record = RunRecord.read(tmp_path / f"workers{workers}")
        assert record.status == "failed"


def test_what_replaces_a_user_s_choice_is_said(train_own: Train, capsys: pytest.CaptureFixture[str]) -> None:
    how = (*OWN, "data.total_batch_size=32", "trainer.epochs=1")
    trained = train_own("Regression", "Tabular", *how)
    line = "batches have 32 items, by data.total_batch_size, not the 16 of Tabular's loader"
    assert trained.record.data["remarks"] == [line]
    assert line in capsys.readouterr().out
    # A parameter of the user's class with the name of one of tempo's keys is not set by that key.
    config = own_config("Regression", {"_target_": "tests.own_modules.Split"}, *OWN)
    (note,) = keys_without_effect(config, None, None)
    assert note.startswith("data.val_size is a key of tempo, so Split keeps its own default")


def test_a_validation_set_that_is_not_wanted_is_not_used(train_own: Train) -> None:
    how = ("data.val_size=0", "checkpoint.select=last", "objective=train/loss", "trainer.epochs=1")
    trained = train_own("Unvalidated", "Tabular", "optimizer=adam", *how)
    assert trained.record.status == "completed"
    assert "val" not in trained.record.metrics


def test_datasets_used_as_they_are_have_the_batch_that_is_asked_for(train_own: Train) -> None:
    data = {"_target_": "tests.own_modules.datasets"}
    how = ("optimizer=adam", "objective=val/mse", "data.resume=epoch", "data.val_size=0",
           "objective=train/loss", "checkpoint.select=last", "trainer.epochs=1")  # fmt: skip
    trained = train_own("Pairs", data, *dict.fromkeys(how))
    assert (trained.record.steps, trained.record.batch["total"]) == (8, 16)


def test_a_metric_that_is_nan_selects_nothing(train_own: Train) -> None:
    trained = train_own({"_target_": "tests.own_modules.Regression", "nan": True}, "Tabular", *OWN)
    assert trained.record.selected["by"] == "last"


@pytest.mark.parametrize("model", ["Regression", "Gan"])
def test_two_processes_see_the_items_of_one(
    train_own: Train, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = OWN if model == "Regression" else (*OWN, "objective=val/distance", "objective_mode=min")
    data = {"_target_": "tests.own_modules.Tabular", "items": 64}
    seen = tmp_path / "seen"
    seen.mkdir()
    monkeypatch.setenv("TEMPO_TEST_SEEN", str(seen))
    both = run_own_on_ranks(tmp_path / "both", model, data, *how)
    assert (both.record.status, both.record.world_size, both.record.steps) == ("completed", 2, 12)
    of_both = [json.loads(path.read_text()) for path in sorted(seen.iterdir())]
    for path in seen.iterdir():
        path.unlink()
    train_own(model, data, *how, folder="alone")
    (alone,) = (json.loads(path.read_text()) for path in seen.iterdir())
    assert [sorted([*first, *second]) for first, second in zip(*of_both, strict=True)] == list(
        map(sorted, alone)
    )
    run_own_on_ranks(tmp_path / "stopped", model, data, *how, stop_after=7)
    resumed = run_own_on_ranks(tmp_path / "stopped", model, data, *how)
    assert resumed.record.weights_sha256 == both.record.weights_sha256
    if model == "Regression":  # which logs means over the epoch
        assert resumed.record.metrics == both.record.metrics
        assert resumed.curves() == both.curves()


def test_a_users_module_predicts_on_its_own_data(train_own: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = train_own("Predicting", "Tabular", *OWN, "trainer.epochs=1")
    for reader in ("tempo.run.load_run", "tempo.config.recorded_config"):  # as if conf/ named both classes
        monkeypatch.setattr(f"{reader}.check_foreign_config", lambda config: None)
    table = predict(trained.folder, None, accelerator="cpu")
    module = tempo.load(trained.folder)
    assert type(module).__name__ == "Predicting"
    assert table.header == ["item", "prediction"]
    assert len(table.rows) == trained.record.data["test"]
    with pytest.raises(UserError, match="leave input out"):
        predict(trained.folder, "x.png", accelerator="cpu")
    with pytest.raises(UserError, match="set format=state_dict"):
        export(trained.folder, "onnx")
    assert export(trained.folder, "state_dict").path == trained.folder / "model.pt"
