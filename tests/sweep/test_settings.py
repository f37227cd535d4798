"""The keys of sweepers and launchers: conf/hydra has the same names and defaults as their classes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from omegaconf import OmegaConf

from tempo.config.schema import read_section
from tempo.errors import UserError
from tempo.sweep.grid_sweeper import GridSettings
from tempo.sweep.launcher.local_launcher import LocalLauncher, LocalSettings
from tempo.sweep.launcher.ray_launcher import RayLauncher, RaySettings
from tempo.sweep.launcher.slurm_launcher import SlurmLauncher, SlurmSettings
from tempo.sweep.search.search_sweeper import SearchSettings
from tests.jobs import CONF

FILES = {
    "sweeper/grid": GridSettings,
    "sweeper/search": SearchSettings,
    "launcher/local": LocalSettings,
    "launcher/ray": RaySettings,
    "launcher/slurm": SlurmSettings,
}


def test_every_file_with_keys_has_a_class() -> None:
    ours = (path for group in ("launcher", "sweeper") for path in CONF.glob(f"hydra/{group}/*"))
    files = {path.relative_to(CONF / "hydra").with_suffix("").as_posix() for path in ours}
    assert files - {"launcher/in_process"} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_the_file_shows_the_defaults(name: str) -> None:
    values: Any = OmegaConf.to_container(OmegaConf.load(CONF / "hydra" / f"{name}.yaml"))
    del values["_target_"]
    assert values == asdict(FILES[name]())


@pytest.mark.parametrize(
    ("launcher", "key", "value"),
    [
        (LocalLauncher, "n_jobs", 0),
        (LocalLauncher, "n_jobs", 1.5),
        (LocalLauncher, "timeout_minutes", 0),
        (LocalLauncher, "gpus", []),
        (LocalLauncher, "gpus", 3),
        (LocalLauncher, "preload", "tempo"),
        (LocalLauncher, "preload", ["tempo.nothing"]),
        (RayLauncher, "cpus_per_process", 0),
        (RayLauncher, "gpus_per_process", -1),
        (RayLauncher, "address", "127.0.0.1:1"),
        (SlurmLauncher, "timeout_minutes", 0),
        (SlurmLauncher, "signal_delay_s", 100_000),
        (SlurmLauncher, "setup", "module load cuda"),
        (SlurmLauncher, "partitions", "a"),
        (LocalLauncher, "gpus", "many"),
        (SlurmLauncher, "mem", 16),
        (RayLauncher, "n_jobs", 0),
        (RayLauncher, "gpus_per_process", "some"),
    ],
)
def test_a_wrong_setting_is_one_line_with_its_key(launcher: Any, key: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"^hydra\.launcher\.{key}") as caught:
        launcher(**{key: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("report", "maybe"), ("max_jobs", "many"), ("max_jobs", None), ("params", 3), ("rows", 3)],
)
def test_a_wrong_setting_of_a_grid_is_one_line_with_its_key(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"^hydra\.sweeper\.{key}={value!r} is not [^\n]*$"):
        read_section(GridSettings, "hydra.sweeper", {key: value})
