"""The procedure of tuning, stage by stage: `python src/tune.py data=cifar10 model=resnet56`."""

from __future__ import annotations

import hashlib
import json
import sys

from omegaconf import DictConfig, OmegaConf

from tempo.command_line.script import script
from tempo.command_line.start_up import importing


@script("tune")
def run(config: DictConfig) -> None:
    """Range test, momentum, weight decay, batch size, final 1cycle run, comparison."""
    # torch takes seconds to import: only a configuration that can work gets here.
    with importing("tempo.tuning.tune"):
        from tempo.tuning.tune import tune

    tune(config)


def main() -> None:
    """Give the procedure a folder that follows from its overrides, so that the same command goes on in it."""
    arguments = sorted(each for each in sys.argv[1:] if "=" in each and not each.startswith("hydra."))
    digest = hashlib.sha256(json.dumps(arguments).encode()).hexdigest()[:8]
    OmegaConf.register_new_resolver("tune_folder", lambda parent, name: f"{parent}/{name}__{digest}")
    run()


if __name__ == "__main__":
    main()
