"""The search of the paper, and the networks that it names."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from tempo.errors import UserError
from tempo.run.build_network import build_network
from tests.jobs import CONF, checked_job

NETWORKS = ("search_vgg16", "search_resnet50", "search_inception_v3")


@pytest.mark.parametrize("name", ["search", *NETWORKS])
def test_adam_four_rates_four_trials_five_epochs(name: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        hydra = compose("train", [f"experiment=frugal/{name}"], return_hydra_config=True).hydra
    assert hydra.sweeper._target_.endswith("SearchSweeper")
    assert (hydra.sweeper.n_trials, hydra.sweeper.sampler, hydra.sweeper.pruner) == (4, "random", "none")
    assert dict(hydra.sweeper.params) == {"optimizer.lr": "1e-2,1e-3,1e-4,1e-5"}
    config, choices = checked_job([f"experiment=frugal/{name}"])
    assert (choices["optimizer"], config.trainer.epochs) == ("adam", 5)
    assert config.objective == "val/accuracy"
    assert {row["where"]["optimizer.lr"] for row in config.values["paper"]["rows"]} == {
        1e-2,
        1e-3,
        1e-4,
        1e-5,
    }


@pytest.mark.parametrize(
    ("name", "side"),
    [("search_vgg16", 32), ("search_resnet50", 32), ("search_inception_v3", 75)],
)
def test_the_smallest_images_that_its_network_takes(name: str, side: int) -> None:
    config, _ = checked_job([f"experiment=frugal/{name}"])
    build_network(config.model, config.seed, (3, side, side), 10)
    if side > 32:
        with pytest.raises(UserError, match=r"inception_v3 cannot take images of 32x32: .*data\.image_size"):
            build_network(config.model, config.seed, (3, 32, 32), 10)


def test_grey_images_are_refused_in_a_line() -> None:
    config, _ = checked_job(["experiment=frugal/search_vgg16", "scale=smoke"])
    with pytest.raises(UserError, match="vgg16 of torchvision takes images with 3 channels, these have 1"):
        build_network(config.model, config.seed, (1, 8, 8), 10)


def test_every_file_says_what_stands_in_for_the_papers_data() -> None:
    for path in (Path(CONF) / "experiment" / "frugal").glob("search*.yaml"):
        text = path.read_text(encoding="utf-8")
        assert "CIFAR-10" in text or "data=folder" in text
        assert "# command: " in text
        assert "# cost: " in text
