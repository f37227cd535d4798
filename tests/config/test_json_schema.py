"""The JSON Schemas for editors agree with every file of conf/, and refuse what the check refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from omegaconf import OmegaConf

from tempo.config.json_schema import FOLDER, WITHOUT_SCHEMA, as_text, is_own, schemas
from tempo.paths import CONF

MODELINE = re.compile(r"^# yaml-language-server: \$schema=(\S+)$", re.MULTILINE)
OTHER_FILES = {"evaluate", "export", "measuring", "predict", "reproduce"}
"""Root files with a few keys of their own."""
FILES = [
    path
    for path in sorted(CONF.rglob("*.yaml"))
    if path.relative_to(CONF).parts[0] not in WITHOUT_SCHEMA and path.stem not in OTHER_FILES and is_own(path)
]


def values_of(path: Path) -> Any:
    return OmegaConf.to_container(OmegaConf.load(path), resolve=False)


def test_the_files_are_those_of_todays_schema() -> None:
    written = {path.stem: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    assert written == {name: as_text(schema) for name, schema in schemas().items()}, (
        "write them anew: PYTHONPATH=src python -m tempo.config.json_schema"
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(CONF).as_posix())
def test_every_file_names_its_schema_and_agrees_with_it(path: Path) -> None:
    found = MODELINE.search(path.read_text(encoding="utf-8"))
    assert found is not None, (
        "name its schema: # yaml-language-server: $schema=<path of docs/schema/run.json>"
    )
    schema = json.loads((path.parent / found[1]).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(values_of(path))


@pytest.mark.parametrize(
    ("schema", "values"),
    [
        ("trainer", {"epoch": 3}),
        ("trainer", {"epochs": 0}),
        ("trainer", {"epochs": "many"}),
        ("trainer", {"precision": "16"}),
        ("run", {"trainer": {"epoch": 3}}),
        ("run", {"seed": 2**32}),
        ("run", {"optimizer": {"momentm": 0.9}}),
        ("run", {"model": {"dept": 3}}),
        ("data", {"_target_": "tempo.data.digits.digits", "image_size": 8}),
        ("optimizer", {"_target_": "tempo.optimizer.muon.MuonWithAdamW", "momentm": 0.9}),
        ("model", {"_target_": "tempo.model.mlp.MLP", "hidden": 3}),
    ],
)
def test_a_wrong_key_or_value_is_marked(schema: str, values: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schemas()[schema]).validate(values)


MODEL_FILE = "# yaml-language-server: $schema=../../docs/schema/model.json\n"


@pytest.mark.parametrize(
    ("name", "text", "is_ours"),
    [
        ("model/a.yaml", f"{MODEL_FILE}_target_: tempo.model.mlp.MLP\n", True),
        ("model/a.yaml", f"{MODEL_FILE}_target_: mine.Model\n", False),
        ("model/a.yaml", "_target_: tempo.model.mlp.MLP\n", False),
        ("optimizer/a.yaml", f"{MODEL_FILE}_target_: lion_pytorch.Lion\n", True),
        ("trainer/a.yaml", f"{MODEL_FILE}devices: 2\n", True),
        ("trainer/a.yaml", "devices: 2\n", False),
        ("callbacks/a.yaml", "# What it does.\na:\n  _target_: mine.Callback\n", False),
        ("callbacks/a.yaml", "# What it does.\na:\n  _target_: pytorch_lightning.callbacks.Timer\n", True),
    ],
)
def test_a_file_that_a_user_adds_is_not_held_to_the_rules_of_ours(
    name: str, text: str, is_ours: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempo.config.json_schema.CONF", tmp_path)
    path = tmp_path / name
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    assert is_own(path) == is_ours


def test_keys_have_the_comments_of_train_yaml() -> None:
    epochs = schemas()["run"]["properties"]["trainer"]["properties"]["max_steps"]
    assert epochs["description"] == "optimizer steps instead of epochs"
