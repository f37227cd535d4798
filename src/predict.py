"""Say what a run's network sees in images: `python src/predict.py logs/latest input=<image or folder>`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tempo.command_line.script import script
from tempo.command_line.start_up import importing

if TYPE_CHECKING:
    from omegaconf import DictConfig


@script("predict")
def main(config: DictConfig) -> None:
    """Load the tested network, classify the images, print the classes and write a CSV file."""
    # torch takes seconds to import, so it waits until the configuration is checked.
    with importing("tempo.run.predict"):
        from tempo.run.predict import predict_from_hydra

    predict_from_hydra(config)


if __name__ == "__main__":
    main()
