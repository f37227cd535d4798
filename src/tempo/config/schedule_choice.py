"""Drop an experiment's schedule settings if another schedule is chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from tempo.errors import UserError

RANGE_SCRIPT = "lr_range"
"""Root configuration of the range test, which sets the schedule itself."""
RANGE_TEST = "tempo.scheduler.range_test.RangeTest"


def with_own_values(config: DictConfig) -> DictConfig:
    """Return the configuration with a `scheduler` node made only of the chosen option and the command line.

    Hydra merges an experiment's schedule keys into any option: `milestones` into 1cycle, or the bounds of
    1cycle into a range test. These keys suit only the schedule that the experiment itself chooses, so they
    are dropped under another schedule and in `src/lr_range.py`. Keys set on the command line are kept. If
    HydraConfig is not set, nothing changes.

    Raises:
        UserError: `src/lr_range.py` was given a schedule other than the range test.
    """
    if not HydraConfig.initialized() or "scheduler" not in config:
        return config
    hydra = HydraConfig.get()
    is_range_script = hydra.job.config_name == RANGE_SCRIPT
    if is_range_script and config.scheduler.get("_target_") != RANGE_TEST:
        raise UserError(
            "src/lr_range.py needs the rising learning rate of scheduler=range_test; leave scheduler=... "
            "out, or run src/train.py"
        )
    option, experiment = (hydra.runtime.choices.get(group) for group in ("scheduler", "experiment"))
    folders = [Path(source.path) for source in hydra.runtime.config_sources if source.schema == "file"]
    if experiment is None or not (is_range_script or _chosen_by(experiment, folders) not in (None, option)):
        return config
    own = _read(f"scheduler/{option}", folders)
    for override in hydra.overrides.task:
        group, _, key = str(override).partition("=")[0].lstrip("+").partition(".")
        key = key.partition(".")[0]
        if group == "scheduler" and key in config.scheduler:
            own[key] = config.scheduler._get_node(key)
        elif group == "~scheduler":
            own.pop(key, None)
    config = config.copy()
    OmegaConf.set_readonly(config, False)
    config.scheduler = own
    return config


def _chosen_by(experiment: str, folders: list[Path]) -> str | None:
    """Return the scheduler option in the defaults of an experiment, or of an experiment it includes."""
    chosen = None
    for default in _read(f"experiment/{experiment}", folders).get("defaults", []):
        if isinstance(default, str) and default != "_self_":
            chosen = _chosen_by(default, folders) or chosen
        elif not isinstance(default, str):
            named = {str(key).split()[-1]: value for key, value in default.items()}
            chosen = named.get("/scheduler", chosen)
    return chosen


def _read(option: str, folders: list[Path]) -> Any:
    """Return an option's YAML from the first folder that has it, or an empty node."""
    files = [folder / f"{option}.yaml" for folder in folders]
    return next((OmegaConf.load(file) for file in files if file.is_file()), OmegaConf.create())
