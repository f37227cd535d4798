"""The fastest road, shortened: what its parts do in a run."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch.nn import functional as F

from tempo.data.augment import LowResolution
from tempo.errors import UserError
from tempo.model.small_vgg import SmallVGG
from tests.conftest import Train
from tests.jobs import CONF, SMALL, checked_job

NO_MODEL = tuple(word for word in SMALL if not word.startswith(("model=", "trainer=", "trainer.log")))


def test_the_networks_images_grow_when_half_of_the_steps_are_done(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides: list[int] = []
    forward = SmallVGG.forward

    def noted(network: SmallVGG, images: torch.Tensor) -> torch.Tensor:
        if network.training:
            sides.append(images.shape[-1])
        return forward(network, images)

    monkeypatch.setattr(SmallVGG, "forward", noted)
    overrides = ("trainer.max_steps=7", "data.low_resolution=6", "data.low_resolution_until=0.55")
    run = train("experiment=pace/digits", *overrides, "trainer.steps_per_call=3", small=NO_MODEL)
    assert sides == [6] * 4 + [8] * 3
    assert run.record.status == "completed"
    frozen = 4 * 8 + 8 + 2 * (32 + 64)  # the first layer and the scales of four norms
    assert run.record.parameters["total"] - run.record.parameters["trainable"] == frozen


def test_smaller_images_are_means_of_neighbouring_pixels() -> None:
    """A ramp stays the ramp as far as its edges, but for the weights' rounding to whole pixels."""
    ramp = torch.arange(32.0).expand(1, 1, 32, 32)
    reduced = LowResolution(24, until_step=5)
    found = reduced(ramp, 4)
    assert found.shape == (1, 1, 24, 24)
    expected = (torch.arange(24) + 0.5) * 32 / 24 - 0.5
    torch.testing.assert_close(found[0, 0, 10, 2:-2], expected[2:-2], rtol=0, atol=0.02)
    assert reduced(ramp, 5) is ramp
    torch.testing.assert_close(LowResolution(16, 1)(torch.ones(1, 1, 32, 40), 0), torch.ones(1, 1, 16, 20))


def test_the_head_is_scaled_and_images_of_one_pixel_are_not_pooled() -> None:
    words = {"widths": [4, 8, 8, 8], "first_filters": 4, "first_kernel": 2, "activation": "gelu"}

    def logits(scale: float) -> torch.Tensor:
        torch.manual_seed(0)
        network = SmallVGG(input_shape=(1, 8, 8), num_classes=3, head_scale=scale, **words).eval()
        return network(torch.linspace(0, 1, 128).view(2, 1, 8, 8))

    torch.testing.assert_close(logits(0.25), logits(1.0) / 4)
    assert F.softmax(logits(1e-6), 1).allclose(torch.tensor(1 / 3))


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["init.whiten=frist"], "init.whiten=frist is not a convolution of the network; choose from: first"),
        (
            ["model=mlp", "init.whiten=null", "~model.widths", "~model.first_filters"],
            "init.dirac=true is for convolutions with an odd",
        ),
        (["data.low_resolution=1"], "cannot take images of 1x1"),
    ],
)
def test_refused_in_one_line(train: Train, overrides: Sequence[str], part: str) -> None:
    with pytest.raises(UserError) as caught:
        train("experiment=pace/digits", *overrides, "trainer.max_steps=2", small=NO_MODEL)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_each_row_of_the_ablation_is_a_run_that_differs_from_the_whole() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        sweeper = compose("train", ["experiment=pace/ablation"], return_hydra_config=True).hydra.sweeper
    configs = [checked_job(row.split())[0].values for row in sweeper.rows]
    assert len(configs) == 10
    assert all(config != configs[0] for config in configs[1:])
    assert configs[0]["optimizer"]["_target_"].endswith("MuonWithSGD")


@pytest.mark.parametrize("override", ["init.dirac=true", "init.whiten=conv1"])
def test_first_weights_of_two_kinds_are_refused(override: str) -> None:
    key = override.partition("=")[0]
    with pytest.raises(
        UserError, match=rf"{key}=.* sets first weights that init_from=a replaces; set {key}="
    ):
        checked_job(["init_from=a", override])
