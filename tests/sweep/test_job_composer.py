"""The shared composition of a sweep's jobs, compared with Hydra's own of each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from tempo.command_line.error_messages import one_line
from tempo.config.resolve_interpolations import composed
from tempo.paths import register_resolvers
from tempo.sweep.job_composer import JobComposer
from tests.jobs import CONF


@pytest.fixture(scope="module")
def loader() -> Iterator[ConfigLoader]:
    register_resolvers()
    OmegaConf.register_new_resolver("run_folder", lambda *_: "unused", replace=True)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


@pytest.fixture(scope="module")
def master(loader: ConfigLoader) -> DictConfig:
    return loader.load_configuration("train", ["hydra.sweep.dir=unused", "seed=1"], RunMode.MULTIRUN)


ALIKE = (
    ("seed=0",),
    ("seed=1", "optimizer.lr=1e-3"),
    ("optimizer.lr=0.3", "optimizer.lr=0.2"),
    ("model={depth: 3}", "~data.augment"),
    ("+optimizer.foreach=true", "++optimizer.lr=0.3", "~early_stopping.min_delta"),
    ("name='a,b ${seed}'", "optimizer.wd=${optimizer.lr}"),
)
OTHER_OPTIONS = (
    ("model=mlp", "model.hidden=[16,8]", "optimizer=adam", "optimizer.beta2=0.9"),
    ("optimizer.lr=0.2", "scheduler=onecycle"),
    ("scheduler=onecycle", "scheduler.min_lr=0.1", "data=mnist", "trainer=ddp_cpu"),
    ("experiment=radiuk2020/figure4b", "scale=smoke", "data.total_batch_size=64"),
    ("experiment=radiuk2020/figure4b", "scheduler=triangular", "scheduler.max_lr=3", "seed=0"),
    ("+experiment@data.x=radiuk2020/figure4b",),
    ("debug=fast_dev_run", "objective=test/loss"),
)
OF_ONE_JOB = (
    ("name='${hydra:job.override_dirname}'", "seed=3"),
    ("seed=3", "hydra.job.name=other", "name='${hydra:job.name}'"),
)


def outcome(compose: object, *arguments: object) -> object:
    """Return what it returns, or the line that a user reads."""
    assert callable(compose)
    try:
        return compose(*arguments)
    except HydraException as error:
        return one_line(error)


@pytest.mark.parametrize("overrides", ALIKE + OTHER_OPTIONS + OF_ONE_JOB, ids=" ".join)
def test_values_are_those_of_hydra(
    loader: ConfigLoader, master: DictConfig, overrides: tuple[str, ...]
) -> None:
    shared = JobComposer(loader, master)
    for before in (("seed=9", "optimizer.lr=9"), ()):  # what one job sets must not reach the next
        given = [*overrides, *before]
        hydras = outcome(lambda given: composed(loader.load_sweep_config(master, given)), given)
        assert outcome(shared.values, given) == hydras


@pytest.mark.parametrize(
    "override",
    ["optimizer.lrr=0.1", "optimiser=adam", "modle=mlp", "model=mlq", "+seed=1", "~optimizer.nothing"],
)
def test_mistakes_are_those_of_hydra(loader: ConfigLoader, master: DictConfig, override: str) -> None:
    hydras = outcome(loader.load_sweep_config, master, [override])
    assert isinstance(hydras, str)
    assert outcome(JobComposer(loader, master).values, [override]) == hydras


def test_files_are_read_once_for_each_choice_of_options(loader: ConfigLoader, master: DictConfig) -> None:
    shared = JobComposer(loader, master)
    for model in ("mlp", "cnn3"):
        for seed in range(3):
            assert shared.values([f"model={model}", f"seed={seed}"])["seed"] == seed
    assert list(shared._bases) == [("model=mlp",), ("model=cnn3",)]
