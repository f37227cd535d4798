"""The typed schema and conf/train.yaml say the same; a new key needs both and nothing else."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from omegaconf import OmegaConf

from tempo.config.check import check
from tempo.config.schema import (
    COMMON_DATA_KEYS,
    ROOT_KEYS,
    SECTIONS,
    AugmentConfig,
    DataConfig,
    ModelConfig,
    RunConfig,
)
from tempo.errors import UserError
from tempo.optimizer.knobs import RATE_KEYS
from tempo.paths import CONF
from tempo.record.newer_keys import NEWER_KEYS, without_newer_keys
from tempo.record.run_json import config_hash, flatten
from tests.jobs import checked_job, compose_job

TRAIN_YAML: Any = OmegaConf.to_container(OmegaConf.load(CONF / "train.yaml"), resolve=False)
CHOSEN_BY_A_GROUP = {"name", "scale", "paper"}


def defaults_of(section: type) -> dict[str, Any]:
    return {
        declared.name: declared.default
        for declared in dataclasses.fields(section)
        if declared.default is not dataclasses.MISSING
    }


@pytest.mark.parametrize("name", SECTIONS)
def test_defaults_of_the_schema_are_those_of_train_yaml(name: str) -> None:
    assert TRAIN_YAML[name] == defaults_of(SECTIONS[name])


def test_defaults_of_data_and_root_are_those_of_train_yaml() -> None:
    common = {key: TRAIN_YAML["data"][key] for key in COMMON_DATA_KEYS - {"augment"}}
    assert common.items() <= defaults_of(DataConfig).items()
    assert TRAIN_YAML["data"]["augment"] == defaults_of(AugmentConfig)
    assert TRAIN_YAML["model"] == defaults_of(ModelConfig)
    assert TRAIN_YAML["optimizer"] == dict.fromkeys(RATE_KEYS)
    root = {key: TRAIN_YAML[key] for key in ROOT_KEYS - CHOSEN_BY_A_GROUP}
    assert root.items() <= defaults_of(RunConfig).items()


def test_a_key_that_is_left_out_has_its_default() -> None:
    values, _ = compose_job(["model=mlp"])
    del values["trainer"]["cuda_graph"], values["ema"]
    config = check(values)
    assert (config.trainer.cuda_graph, config.ema.decay) == ("auto", None)


def test_a_deleted_key_of_a_section_is_recorded_and_hashed_with_its_default() -> None:
    deleted = compose_job(["model=mlp", "~trainer.num_nodes", "~data.augment.flip", "~server"])[0]
    assert config_hash(deleted) == config_hash(compose_job(["model=mlp"])[0])
    assert check(deleted).values["trainer"]["num_nodes"] == 1


def test_the_typed_configuration_holds_what_was_composed() -> None:
    config, _ = checked_job(["model=mlp", "data=synthetic", "trainer.epochs=3", "optimizer.lr=0.3"])
    assert (config.trainer.epochs, config.optimizer.arguments["lr"]) == (3, 0.3)
    assert config.data.source.target == "tempo.data.synthetic.synthetic"
    assert config.model.node.items() <= config.values["model"].items()
    changed = config.with_trainer(epochs=4)
    assert (changed.trainer.epochs, changed.values["trainer"]["epochs"]) == (4, 4)
    assert (config.trainer.epochs, config.values["trainer"]["epochs"]) == (3, 3)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("trainer.epochs=0", "trainer.epochs=0 must be at least 1; set e.g. trainer.epochs=1"),
        (
            "trainer.gradient_clip=0",
            "trainer.gradient_clip=0 must be above 0; set e.g. trainer.gradient_clip=1",
        ),
        ("ema.decay=1.0", "ema.decay=1.0 must be below 1; set e.g. ema.decay=0.999"),
        ("seed=-1", "seed=-1 must be at least 0; set e.g. seed=0"),
        ("trainer.epochs=9999999999", "trainer.epochs=9999999999 must be at most 2147483647"),
        ("divergence.factor=inf", "divergence.factor=inf must be finite; set divergence.factor=2"),
    ],
)
def test_a_number_out_of_range_is_refused_with_one_in_range(override: str, line: str) -> None:
    with pytest.raises(UserError) as caught:
        checked_job(["model=mlp", override])
    assert str(caught.value).startswith(line)
    checked_job(["model=mlp", str(caught.value).split()[-1]])


def test_newer_keys_at_their_old_meaning_do_not_change_the_hash() -> None:
    values, _ = compose_job([])
    older = without_newer_keys(values)
    groups = ("loss",)
    newer = {key for key in flatten(values) if key in NEWER_KEYS or key.partition(".")[0] in groups}
    assert flatten(older).keys() == flatten(values).keys() - newer
    assert config_hash(older) == config_hash(values)
    assert config_hash({**values, "objective_mode": "min"}) != config_hash(values)
