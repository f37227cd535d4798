"""Loaders that a LightningModule brings itself (data=own), and datasets that change from epoch to epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor
from torch.utils.data import DataLoader

from tempo.errors import UserError
from tempo.run.evaluate import evaluate
from tempo.run.predict import predict
from tests.conftest import Trained
from tests.own_modules import Drawing, Predicting, Regression, Tabular
from tests.run.test_own_module import OWN, train_own

__all__ = ["train_own"]
Train = Callable[..., Trained]


class Complete(Predicting):
    """A module with the loaders of `Tabular`."""

    def __init__(self, items: int = 320, num_workers: int = 0, **others: Any) -> None:
        super().__init__(**others)
        self.of_data = Tabular(items, num_workers)

    def setup(self, stage: str) -> None:
        self.stage_of_setup = stage

    def train_dataloader(self) -> DataLoader[Any]:
        assert self.stage_of_setup == "fit"
        return self.of_data.train_dataloader()

    def val_dataloader(self) -> DataLoader[Any]:
        return self.of_data.val_dataloader()

    def test_dataloader(self) -> DataLoader[Any]:
        assert self.stage_of_setup == "test"
        return self.of_data.test_dataloader()


def complete(**arguments: Any) -> dict[str, Any]:
    return {"_target_": f"{__name__}.Complete", **arguments}


def test_a_module_trains_on_its_own_loaders_as_on_those_of_a_data_module(
    train_own: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train_own("Predicting", "Tabular", *OWN, folder="data_module").record
    trained = train_own(complete(), None, *OWN, "data=own", folder="own")
    assert trained.record.weights_sha256 == expected.weights_sha256
    assert trained.record.metrics == expected.metrics
    assert trained.record.data["name"] == "Complete"
    train_own(complete(), None, *OWN, "data=own", folder="resumed", stop_after=27)
    resumed = train_own(complete(), None, *OWN, "data=own", folder="resumed").record
    assert resumed.weights_sha256 == expected.weights_sha256
    for reader in ("tempo.run.evaluate", "tempo.run.load_run", "tempo.config.recorded_config"):
        monkeypatch.setattr(f"{reader}.check_foreign_config", lambda config: None)
    assert evaluate(trained.folder).against_record == "the record's numbers"
    assert len(predict(trained.folder, None).rows) == 45


@pytest.mark.parametrize(
    ("model", "changes", "line"),
    [
        ("Regression", (*OWN, "data=own"), "Regression has no train_dataloader, so nothing would be trained"),
        (
            complete(),
            (*OWN, "data=digits"),
            "Complete has train_dataloader.* set data=own, or remove that method",
        ),
        (
            complete(),
            (*OWN, "data=own", "+data.root=here"),
            "data.root=.*: with data=own the LightningModule sets it",
        ),
        ({"_target_": "tempo.model.mlp.MLP", "hidden": [4]}, ("data=own",), "or model=<a LightningModule>"),
    ],
)
def test_what_brings_no_loaders_is_one_line(
    train_own: Train, model: Any, changes: tuple[str, ...], line: str
) -> None:
    with pytest.raises(UserError, match=line):
        train_own(model, None, *changes)


class Growing(Drawing):
    """Items that depend on the epoch."""

    epoch = 0

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        item = super().__getitem__(index)
        return {**item, "x": item["x"] * (1 + self.epoch)}


class ToldTheEpoch(Growing):
    """The same, which is told the epoch."""

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


class GrowingData(Tabular):
    """A loader of such items; workers that stay keep a copy of them."""

    def __init__(self, num_workers: int = 0, is_told: bool = False) -> None:
        super().__init__(96, num_workers)
        self.growing = (ToldTheEpoch if is_told else Growing)(96)

    def train_dataloader(self) -> DataLoader[Any]:
        stay = self.num_workers > 0 and isinstance(self.growing, ToldTheEpoch)
        return DataLoader(self.growing, batch_size=16, num_workers=self.num_workers, persistent_workers=stay)


class SettingEpoch(Regression):
    """A module that changes its data set at the start of an epoch."""

    def on_train_epoch_start(self) -> None:
        self.trainer.datamodule.source.growing.epoch = self.current_epoch


def test_a_dataset_that_changes_from_epoch_to_epoch_is_the_same_for_all_workers(train_own: Train) -> None:
    model, data = {"_target_": f"{__name__}.SettingEpoch"}, {"_target_": f"{__name__}.GrowingData"}
    whole = train_own(model, data, *OWN, folder="whole").record.weights_sha256
    workers = {**data, "num_workers": 2}
    assert train_own(model, workers, *OWN, folder="workers").record.weights_sha256 == whole
    told = {**workers, "is_told": True}
    train_own("Regression", told, *OWN, folder="told", stop_after=8)
    assert train_own("Regression", told, *OWN, folder="told").record.weights_sha256 == whole
    assert train_own("Regression", data, *OWN, folder="fixed").record.weights_sha256 != whole
