"""Learn a ring of points in the plane: a generator and a discriminator with an optimizer each."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.utils.data import TensorDataset


def perceptron(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """Return a network with two hidden layers."""
    hidden = [nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(width, outputs))


class Gan(pl.LightningModule):
    """A GAN under manual optimization: both optimizers take a step with each batch."""

    def __init__(self, noise: int, width: int, generator_lr: float, discriminator_lr: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.generator = perceptron(noise, width, 2)
        self.discriminator = perceptron(2, width, 1)

    def training_step(self, batch: list[Tensor]) -> dict[str, Tensor]:
        """Take a step of the discriminator, then one of the generator."""
        (real,) = batch
        of_generator, of_discriminator = self.optimizers()
        fake = self.generator(torch.randn(len(real), self.hparams["noise"], device=self.device))
        loss = softplus(-self.discriminator(real)).mean() + softplus(self.discriminator(fake.detach())).mean()
        self._step(of_discriminator, loss)
        generator_loss = softplus(-self.discriminator(fake)).mean()
        self._step(of_generator, generator_loss)
        self.log("train/generator_loss", generator_loss)
        return {"loss": loss}

    def validation_step(self, batch: list[Tensor]) -> None:
        """Log `val/distance`."""
        self.log("val/distance", self._distance(batch))

    def test_step(self, batch: list[Tensor]) -> None:
        """Log `test/distance`."""
        self.log("test/distance", self._distance(batch))

    def _step(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def _distance(self, batch: list[Tensor]) -> Tensor:
        """Return the energy distance between real and generated points."""
        (real,) = batch
        fake = self.generator(torch.randn(len(real), self.hparams["noise"], device=self.device))
        within = torch.cdist(real, real).mean() + torch.cdist(fake, fake).mean()
        return 2 * torch.cdist(real, fake).mean() - within

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return Adam for the generator and Adam for the discriminator."""
        rates = {self.generator: "generator_lr", self.discriminator: "discriminator_lr"}
        return [
            torch.optim.Adam(part.parameters(), self.hparams[lr], (0.5, 0.9)) for part, lr in rates.items()
        ]


def ring(points: int) -> dict[str, TensorDataset]:
    """Return noisy points on a circle of radius 1, `[N, 2]`, for each split."""
    generator = torch.Generator().manual_seed(0)
    sets = {}
    for name, size in (("train", points), ("val", 256), ("test", 256)):
        angles = 2 * torch.pi * torch.rand(size, generator=generator)
        noise = 0.05 * torch.randn(size, 2, generator=generator)
        sets[name] = TensorDataset(torch.stack([angles.cos(), angles.sin()], 1) + noise)
    return sets
