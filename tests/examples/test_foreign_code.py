"""Code in the manner of public templates: it imports `lightning`, gets partial nodes, and saves them."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tempo.errors import UserError
from tempo.paths import PROJECT
from tempo.run.evaluate import evaluate
from tests.conftest import Train
from tests.jobs import finish, start_job

PACKAGE = """
from typing import Any

import lightning as L
import lightning.pytorch as pl
import torch
from lightning import LightningDataModule, LightningModule
from lightning.pytorch.callbacks import Callback
from lightning.fabric.utilities.seed import seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

assert L.LightningModule is pl.LightningModule is LightningModule
assert L.__version__ == pl.__version__


class Data(LightningDataModule):
    def __init__(self, batch_size: int = 64, num_workers: int = 0) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.train = None

    def setup(self, stage: Any = None) -> None:
        if self.trainer is not None and self.hparams.batch_size % self.trainer.world_size != 0:
            raise RuntimeError("not divisible")
        if self.train is None:  # drawn from the global generator
            values = torch.randn(80, 4)
            pairs = TensorDataset(values, (values.sum(1) > 0).long())
            self.train, self.val, self.test = random_split(pairs, [48, 16, 16])

    def train_dataloader(self):
        return DataLoader(self.train, self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, self.hparams.batch_size)

    def test_dataloader(self):
        return DataLoader(self.test, self.hparams.batch_size)


class Classifier(LightningModule):
    def __init__(self, net: nn.Module, optimizer, scheduler, unsafe: bool = False, **others: Any) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.net = net

    def on_save_checkpoint(self, checkpoint):
        if self.hparams.unsafe:
            checkpoint["net"] = self.net

    def step(self, batch, split):
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log(f"{split}/loss", loss, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def training_step(self, batch, batch_idx):
        return self.step(batch, "train")

    def validation_step(self, batch, batch_idx):
        self.step(batch, "val")

    def test_step(self, batch, batch_idx):
        self.step(batch, "test")

    def configure_optimizers(self):
        optimizer = self.hparams.optimizer(params=self.trainer.model.parameters())
        scheduler = self.hparams.scheduler(optimizer=optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val/loss"}}
"""
MODEL = """
_target_: foreign_package.module.Classifier
unsafe: false
note: passed as one of the other arguments
net:
  _target_: torch.nn.Sequential
  _args_:
  - {_target_: torch.nn.Linear, in_features: 4, out_features: 8}
  - {_target_: torch.nn.Dropout, p: 0.1}
  - {_target_: torch.nn.Linear, in_features: 8, out_features: 2}
optimizer: {_target_: torch.optim.Adam, _partial_: true, lr: 0.01}
scheduler: {_target_: torch.optim.lr_scheduler.ReduceLROnPlateau, _partial_: true, patience: 1}
"""
DATA = """
_target_: foreign_package.module.Data
batch_size: 8
total_batch_size: 8
"""
OVERRIDES = [
    *("model=foreign", "data=foreign", "optimizer=own", "scheduler=own", "objective=val/loss"),
    *("trainer=cpu", "trainer.threads=1", "trainer.epochs=3", "trainer.log_every_n_steps=1"),
]


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = {
        "foreign_package/module.py": PACKAGE,
        "conf/model/foreign.yaml": MODEL,
        "conf/data/foreign.yaml": DATA,
    }
    folder = tmp_path / "foreign"
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))
    monkeypatch.setenv(PROJECT, str(folder))
    return folder


@pytest.mark.filterwarnings("ignore:Attribute 'net' is an instance of `nn.Module`")
def test_a_module_of_a_template_trains_resumes_and_is_evaluated(
    foreign: Path, tmp_path: Path, train: Train
) -> None:
    whole = train(*OVERRIDES, small=(), folder="whole")
    assert whole.record.metrics["test"].keys() == {"loss"}
    saved = whole.checkpoint()
    assert saved["hyper_parameters"] == {
        "unsafe": False,
        "note": "passed as one of the other arguments",
    }  # no partials and no modules, which could run code when they are read

    stopped = train(*OVERRIDES[:-2], "trainer.epochs=1", small=(), folder="stopped")
    assert stopped.record.data["sha256"] == whole.record.data["sha256"]
    assert evaluate(whole.folder, accelerator="cpu").against_record == "the record's numbers"
    assert evaluate(stopped.folder, accelerator="cpu").against_record == "the record's numbers"
    other = train(*OVERRIDES, "seed=1", small=(), folder="other")
    assert other.record.data["sha256"] == whole.record.data["sha256"]
    assert other.record.weights_sha256 != whole.record.weights_sha256


@pytest.mark.filterwarnings("ignore:Attribute 'net' is an instance of `nn.Module`")
def test_a_state_that_could_run_code_is_refused_at_the_first_save(foreign: Path, train: Train) -> None:
    with pytest.raises(UserError, match=r"but the state to save has a torch\.nn\.modules\.\w+\.\w+"):
        train(*OVERRIDES, "model.unsafe=true", small=(), folder="unsafe")


def test_two_ranks_find_the_project(foreign: Path, tmp_path: Path) -> None:
    job = start_job(
        tmp_path / "ddp",
        [*OVERRIDES, "trainer=ddp_cpu", "trainer.devices=2", "trainer.epochs=1"],
        {PROJECT: str(foreign)},
    )
    assert finish(job) == 0, (tmp_path / "ddp" / "output.txt").read_text()
