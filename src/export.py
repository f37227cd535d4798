"""Write a run's network to a file: `python src/export.py logs/latest format=torch_export`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tempo.command_line.script import script
from tempo.command_line.start_up import importing

if TYPE_CHECKING:
    from omegaconf import DictConfig


@script("export")
def main(config: DictConfig) -> None:
    """Load the tested network, write it in the format, read the file and compare its outputs."""
    # torch takes seconds to import, so it waits until the configuration is checked.
    with importing("tempo.run.export"):
        from tempo.run.export import export_from_hydra

    export_from_hydra(config)


if __name__ == "__main__":
    main()
