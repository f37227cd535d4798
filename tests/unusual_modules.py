"""LightningModules and data that use more of Lightning than those of `own_modules`."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanSquaredError

from tests.own_modules import Bare, Drawing, Regression, Tabular


class NoTest(Tabular):
    """Data whose test_dataloader returns nothing."""

    def test_dataloader(self) -> Any:
        return None


class WholeBatches(Tabular):
    """A validation loader without automatic batches: each item is a batch."""

    def val_dataloader(self) -> Any:
        x = torch.rand(5, 8, 4)
        items = [{"x": part, "y": part.sum(1, keepdim=True), "index": torch.arange(8)} for part in x]
        return DataLoader(items, batch_size=None)  # type: ignore[arg-type]


class OneValBatch(Tabular):
    """Validation and test sets of one batch, which two processes share."""

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Drawing(50), batch_size=64)

    def test_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Drawing(45), batch_size=64)


class SeveralLoaders(Tabular):
    """Two validation loaders."""

    def val_dataloader(self) -> Any:
        return [DataLoader(Drawing(50), batch_size=16), DataLoader(Drawing(20), batch_size=16)]


class TwoTrainLoaders(Tabular):
    """Two training loaders, whose batches come together."""

    def train_dataloader(self) -> Any:
        data = [TensorDataset(torch.rand(n, 4), torch.rand(n, 1)) for n in (64, 80)]
        return {name: DataLoader(part, batch_size=16) for name, part in zip("ab", data, strict=True)}


class DrawnOnTransfer(Tabular):
    """Data that augments whole batches."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return {**batch, "x": batch["x"] + torch.randn_like(batch["x"])}


class EpochEnd(Regression):
    """Steps its scheduler and logs at the end of the epoch, under manual optimization."""

    def __init__(self, **others: Any) -> None:
        super().__init__(**others)
        self.automatic_optimization = False

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        optimizer = self.optimizers()
        loss = self.loss_of(batch)
        optimizer.zero_grad()  # type: ignore[union-attr]
        self.manual_backward(loss)
        optimizer.step()  # type: ignore[union-attr]
        if self.trainer.global_step % 3 == 0:
            self.log("train/every_third", loss)
        self.log("train/mse", loss)

    def on_train_epoch_end(self) -> None:
        self.lr_schedulers().step()  # type: ignore[union-attr]
        self.log("train/at_end", float(self.current_epoch))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.3)]


class Sampling(Regression):
    """Draws in its validation, as a generative model does."""

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("val/mse", self.loss_of(batch) + torch.rand(()))


class TwoVal(Regression):
    """Takes batches of several validation loaders."""

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("val/mse", self.loss_of(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=self.lr)


class Scheduled(Regression):
    """Regression with a scheduler of choice."""

    steps: ClassVar[int] = 0

    def __init__(self, kind: str = "onecycle", **others: Any) -> None:
        super().__init__(**others)
        self.save_hyperparameters()
        self.kind = kind

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr)
        rates = torch.optim.lr_scheduler
        if self.kind == "onecycle":
            type(self).steps = steps = int(self.trainer.estimated_stepping_batches)
            one_cycle = rates.OneCycleLR(optimizer, 0.05, total_steps=steps)
            made: dict[str, Any] = {"scheduler": one_cycle, "interval": "step"}
        else:
            plateau = rates.ReduceLROnPlateau(optimizer, factor=0.9, patience=0, threshold=0.5)
            made = {"scheduler": plateau}
            made |= {
                "plateau_step": {"monitor": "train/mse", "interval": "step"},
                "plateau_second": {"monitor": "val/mse", "frequency": 2},
                "plateau_lenient": {"monitor": "val/mse", "strict": False},
                "plateau": {"monitor": "val/mse"},
            }[self.kind]
        return {"optimizer": optimizer, "lr_scheduler": made}


class SameName(Regression):
    """Logs the same names in training and in validation."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = self.loss_of(batch)
        self.log("size", 1.0, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.log("val/mse", self.loss_of(batch), on_step=True, on_epoch=True)
        self.log("size", 2.0)


class Paired(Bare):
    """Takes the batches of two loaders."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Note nothing."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return sum((F.mse_loss(self.net(x), y) for x, y in batch.values()), torch.zeros(()))


class Measured(Regression):
    """Logs a torchmetrics object over the epoch; its weights in a checkpoint are behind hooks of its own."""

    def __init__(self, **others: Any) -> None:
        super().__init__(**others)
        self.error = MeanSquaredError()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self.error(self.net(batch["x"]), batch["y"])
        self.log("train/error", self.error, on_step=False, on_epoch=True)
        return self.loss_of(batch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["packed"] = checkpoint["state_dict"]
        checkpoint["state_dict"] = {}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = checkpoint.pop("packed")
