"""Tune the hyperparameters stage by stage: `python src/tune.py data=cifar10 model=resnet56`."""

from __future__ import annotations

import hashlib
import json
import sys

from omegaconf import DictConfig, OmegaConf

from tempo.command_line.script import script
from tempo.command_line.start_up import importing


@script("tune")
def run(config: DictConfig) -> None:
    """Run the stages: range test, batch size, momentum, weight decay, final 1cycle run, comparison."""
    # torch takes seconds to import, so it waits until the configuration is checked.
    with importing("tempo.tuning.tune"):
        from tempo.tuning.tune import tune

    tune(config)


def main() -> None:
    """Derive the folder of the procedure from its overrides, so that rerunning the command resumes it."""
    overrides = sorted(
        argument for argument in sys.argv[1:] if "=" in argument and not argument.startswith("hydra.")
    )
    digest = hashlib.sha256(json.dumps(overrides).encode()).hexdigest()[:8]
    OmegaConf.register_new_resolver("tune_folder", lambda parent, name: f"{parent}/{name}__{digest}")
    run()


if __name__ == "__main__":
    main()
