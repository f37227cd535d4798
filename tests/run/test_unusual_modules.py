"""Modules and data that use more of Lightning: hooks at an epoch's end, several loaders, own schedulers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tempo.errors import UserError
from tempo.run.evaluate import evaluate
from tempo.run.load_run import load_run
from tempo.trainer.checkpoint_file import weights_sha256
from tests import unusual_modules
from tests.conftest import Trained
from tests.own_jobs import run_own_on_ranks
from tests.run.test_own_module import OWN, train_own

__all__ = ["train_own"]
Train = Callable[..., Trained]


def of(name: str, **arguments: Any) -> dict[str, Any]:
    """The node of a class of `unusual_modules`."""
    return {"_target_": f"tests.unusual_modules.{name}", **arguments}


def same(train: Train, model: Any, data: Any, how: tuple[str, ...], stops: tuple[int, ...]) -> Trained:
    """Assert that runs which are stopped and resumed end as the whole one."""
    whole = train(model, data, *how, folder="whole")
    for stop in stops:
        train(model, data, *how, folder=f"stop{stop}", stop_after=stop)
        resumed = train(model, data, *how, folder=f"stop{stop}")
        assert resumed.record.weights_sha256 == whole.record.weights_sha256, stop
        assert resumed.record.metrics == whole.record.metrics, stop
        assert resumed.curves() == whole.curves(), stop
    return whole


def test_data_without_a_test_loader_leave_no_test_in_the_record(train_own: Train) -> None:
    trained = train_own("Regression", of("NoTest"), *OWN, "trainer.epochs=1")
    assert trained.record.metrics.keys() == {"train", "val"}


def test_the_end_of_an_epoch_sees_what_the_module_does_there(train_own: Train) -> None:
    whole = same(train_own, of("EpochEnd"), "Tabular", OWN, (20, 23, 25))
    assert whole.record.metrics["train"]["at_end"] == 2


def test_a_torchmetric_and_the_hooks_of_a_checkpoint_survive_a_resume(
    train_own: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = same(train_own, of("Measured"), "Tabular", (*OWN, "trainer.epochs=1"), (13,))
    assert "error" in whole.record.metrics["train"]
    for reader in ("tempo.run.evaluate", "tempo.run.load_run", "tempo.config.recorded_config"):
        monkeypatch.setattr(f"{reader}.check_foreign_config", lambda config: None)
    assert evaluate(whole.folder, accelerator="cpu").against_record == "the record's numbers"
    assert weights_sha256(load_run(whole.folder)) == whole.record.weights_sha256


def test_validation_and_transfer_draw_the_same_with_any_number_of_workers(train_own: Train) -> None:
    how = (*OWN, "trainer.epochs=2")
    alone = train_own(of("Sampling"), of("DrawnOnTransfer"), *how, folder="alone").record
    workers = (*how, "data.num_workers=2")
    train_own(of("Sampling"), of("DrawnOnTransfer"), *workers, folder="workers", stop_after=27)
    with_workers = train_own(of("Sampling"), of("DrawnOnTransfer"), *workers, folder="workers").record
    assert with_workers.metrics == alone.metrics
    assert with_workers.weights_sha256 == alone.weights_sha256


def test_two_processes_share_an_evaluation_of_one_batch(tmp_path: Path) -> None:
    data = of("OneValBatch", items=64)
    both = run_own_on_ranks(tmp_path / "both", "Regression", data, *OWN, "trainer.epochs=1")
    assert both.record.status == "completed"


def test_items_may_be_whole_batches(train_own: Train) -> None:
    trained = train_own("Regression", of("WholeBatches"), *OWN, "trainer.epochs=1")
    assert trained.record.data["val"] == 5
    assert trained.record.metrics["val"].keys() == {"mse"}


def test_train_size_holds_for_data_with_their_own_validation(train_own: Train) -> None:
    trained = train_own("Regression", "Tabular", *OWN, "trainer.epochs=1", "data.train_size=160")
    assert (trained.record.data["train"], trained.record.steps) == (160, 10)


AS_IT_IS = ("optimizer=adam", "objective=val/mse", "data.resume=epoch", "trainer.epochs=2")


@pytest.mark.parametrize(
    ("model", "data", "overrides", "steps"),
    [
        ("unusual_modules.Paired", "unusual_modules.TwoTrainLoaders", (), 10),
        ("own_modules.Bare", "own_modules.Tabular", ("trainer.accumulate=2",), 4),
        ("own_modules.Bare", "own_modules.Tabular", ("trainer.limit_train_steps=2",), 4),
        (
            "own_modules.Bare",
            "own_modules.Streamed",
            ("trainer.limit_train_steps=2", "trainer.accumulate=2"),
            4,
        ),
    ],
)
def test_a_loader_used_as_it_is_has_whole_steps(
    train_own: Train, model: str, data: str, overrides: tuple[str, ...], steps: int
) -> None:
    items = {"items": 80} if data.endswith("Tabular") else {}
    trained = train_own(
        {"_target_": f"tests.{model}"}, {"_target_": f"tests.{data}", **items}, *AS_IT_IS, *overrides
    )
    assert trained.record.steps == steps


def test_a_module_is_told_the_steps_of_a_run_that_ends_within_an_epoch(train_own: Train) -> None:
    same(train_own, of("Scheduled"), "Tabular", (*OWN, "trainer.max_steps=50"), (33,))
    assert unusual_modules.Scheduled.steps == 50


@pytest.mark.parametrize(
    ("kind", "overrides", "stops"),
    [
        ("plateau_step", (), (20, 27)),
        ("plateau_second", ("trainer.epochs=4", "trainer.val_every_n_epochs=2"), (20, 40)),
        ("plateau_lenient", ("trainer.epochs=4", "trainer.val_every_n_epochs=2"), (40, 47)),
    ],
)
@pytest.mark.filterwarnings("ignore:ReduceLROnPlateau conditioned")
def test_a_scheduler_that_reacts_to_a_metric_resumes_anywhere(
    train_own: Train, kind: str, overrides: tuple[str, ...], stops: tuple[int, ...]
) -> None:
    same(train_own, of("Scheduled", kind=kind), "Tabular", (*OWN, *overrides), stops)


def test_a_scheduler_that_misses_its_metric_is_one_line(train_own: Train) -> None:
    with pytest.raises(UserError, match=r"monitors val/mse, .* trainer.val_every_n_epochs=1"):
        train_own(of("Scheduled", kind="plateau"), "Tabular", *OWN, "trainer.val_every_n_epochs=2")


def test_one_name_may_be_logged_in_training_and_in_validation(train_own: Train) -> None:
    trained = train_own(of("SameName"), "Tabular", *OWN)
    assert [row["train/size"] for row in trained.rows() if "train/size" in row] == [1, 1, 1]
    assert trained.record.metrics["val"].keys() == {"mse", "size"}


def test_several_validation_loaders_have_their_own_metrics(train_own: Train) -> None:
    how = ("optimizer=own", "scheduler=own", "objective=val/mse/dataloader_idx_1")
    whole = same(train_own, of("TwoVal"), of("SeveralLoaders"), how, (27,))
    assert whole.record.data["val"] == 70
    assert whole.record.metrics["val"].keys() == {"mse/dataloader_idx_0", "mse/dataloader_idx_1"}
