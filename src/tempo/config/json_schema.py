"""JSON Schemas of the files in conf/, for editors: `python -m tempo.config.json_schema` writes docs/schema/.

A file of conf/ names its schema in a comment, `# yaml-language-server: $schema=../docs/schema/run.json`. Each
value may also be an interpolation (`${...}`), which only Hydra can resolve.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from tempo.config.hydra_targets import EXTRAS, signature_of
from tempo.config.key_comments import comments_of
from tempo.config.schema import (
    COMMON_MODEL_KEYS,
    GROUPS,
    SECTIONS,
    AugmentConfig,
    DataConfig,
    ModelConfig,
    RunConfig,
)
from tempo.config.value_types import Range
from tempo.optimizer.knobs import knob_types
from tempo.paths import CONF, ROOT

Schema = dict[str, Any]

FOLDER = ROOT / "docs" / "schema"
INTERPOLATION: Schema = {"type": "string", "pattern": r"^(.*\$\{.*|\?\?\?)$"}
_TYPES: dict[str, Schema] = {
    "bool": {"type": "boolean"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "str": {"type": "string"},
    "None": {"type": "null"},
}
_SCHEMA = "# yaml-language-server: $schema="
WITHOUT_SCHEMA = ("hydra", "logger", "callbacks")
"""Groups whose files have no schema."""
_PACKAGES = {"tempo", "torch", "pytorch_lightning", "own"}
_PASSED = {"self", "params", "input_shape", "num_classes", "class_counts", "network", "network_sha256"}
"""Arguments that a run passes itself."""


def schemas() -> dict[str, Schema]:
    """Return the schema of each kind of file in conf/, by its file name in docs/schema/."""
    comments = comments_of((CONF / "train.yaml").read_text(encoding="utf-8"))
    nodes = {name: _section(section, name, comments) for name, section in SECTIONS.items()}
    common = _section(DataConfig, "data", comments)["properties"]
    common["augment"] = _section(AugmentConfig, "data.augment", comments)
    del common["source"]
    of_models = _section(ModelConfig, "model", comments)["properties"]
    shared = {"data": common, "model": {name: of_models[name] for name in COMMON_MODEL_KEYS}}
    groups = {name: _group(name, shared.get(name, {})) for name in GROUPS}
    options = {name: _any_option(schema, _keys_of_options(name)) for name, schema in groups.items()}
    root = _section(RunConfig, "", comments)["properties"]
    del root["values"]
    root |= nodes | options
    root["logger"] = {"type": "object"}
    others = {name: {"type": "object"} for name in ("hydra", "tune", "scaling")}
    run = _object({**root, **others, "defaults": {"type": "array"}})
    return {"run": run, "trainer": nodes["trainer"], **groups}


def is_own(path: Path) -> bool:
    """Whether a file of conf/ is tempo's own, and not one that a user has added to this checkout.

    It names its schema (in a group without schemas, it says what it is), and names only code of tempo, torch,
    Lightning or an extra.
    """
    text = path.read_text(encoding="utf-8")
    targets = re.findall(r"^ *_target_: (\S+)", text, re.MULTILINE)
    if not all(target in EXTRAS or target.partition(".")[0] in _PACKAGES for target in targets):
        return False
    return text.startswith("# ") if path.relative_to(CONF).parts[0] in WITHOUT_SCHEMA else _SCHEMA in text


def write_schemas() -> None:
    """Write the schemas to docs/schema/."""
    FOLDER.mkdir(exist_ok=True)
    for name, schema in schemas().items():
        (FOLDER / f"{name}.json").write_text(as_text(schema), encoding="utf-8")


def as_text(schema: Schema) -> str:
    """Return a schema as the text of its file."""
    draft = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps({**draft, **schema}, indent=1, sort_keys=True) + "\n"


def _object(properties: dict[str, Schema]) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _section(section: type[Any], where: str, comments: dict[str, str]) -> Schema:
    """Return the schema of a dataclass of keys; no key is required, since each file sets some of them."""
    properties = {}
    for declared in dataclasses.fields(section):
        key = f"{where}.{declared.name}" if where else declared.name
        value = _value(str(declared.type), declared.metadata.get("range"))
        properties[declared.name] = value | ({"description": comments[key]} if key in comments else {})
    return _object(properties)


def _group(name: str, common: dict[str, Schema]) -> Schema:
    """Return the schema of an option of a group: the keys follow from its `_target_`."""
    cases = []
    targets = [_target(path) for path in sorted((CONF / name).glob("*.yaml")) if is_own(path)]
    for target in dict.fromkeys(targets):
        arguments = signature_of(target)
        if arguments is None:  # from another package: its keys are checked when it is built
            continue
        arguments = knob_types(arguments) if name == "optimizer" else arguments
        values = {key: _value(kind) for key, kind in arguments.items() if key not in _PASSED}
        case = _object({"_target_": {"const": target}, **common, **values})
        cases.append({"if": {"properties": {"_target_": {"const": target}}}, "then": case})
    return {"type": "object", "required": ["_target_"], "properties": common, "allOf": cases}


def _keys_of_options(name: str) -> set[str]:
    """Return the keys that the options of a group set: some belong to classes of other packages."""
    texts = [path.read_text(encoding="utf-8") for path in (CONF / name).glob("*.yaml") if is_own(path)]
    return {key for text in texts for key in re.findall(r"^(\w+):", text, re.MULTILINE)}


def _any_option(group: Schema, keys: set[str]) -> Schema:
    """Return the schema of a group's node in a file that does not name the option: any option's keys."""
    found: dict[str, list[Schema]] = {}
    for case in group["allOf"]:
        for key, value in case["then"]["properties"].items():
            if key != "_target_" and value not in found.setdefault(key, []):
                found[key].append(value)
    one = {key: values[0] if len(values) == 1 else {"anyOf": values} for key, values in found.items()}
    others: dict[str, Schema] = {key: {} for key in sorted(keys)}
    return _object({**others, **one, **group["properties"]})


def _target(path: Path) -> str:
    found = re.search(r"^_target_: (\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None, f"{path} has no _target_"
    return found[1]


def _value(annotation: str, limits: Range | None = None) -> Schema:
    choices = _choices(ast.parse(annotation, mode="eval").body)
    for choice in choices:
        if limits is not None and choice.get("type") in ("integer", "number"):
            bounds = {
                "minimum": limits.at_least,
                "exclusiveMinimum": limits.above,
                "exclusiveMaximum": limits.below,
                "maximum": limits.at_most,
            }
            choice |= {name: bound for name, bound in bounds.items() if bound is not None}
    return {"anyOf": [*choices, INTERPOLATION]} if {} not in choices else {}


def _choices(node: ast.expr) -> list[Schema]:
    """Return the schemas of the parts of `a | b | c`; an empty one for a type that JSON does not have."""
    if isinstance(node, ast.BinOp):
        return [*_choices(node.left), *_choices(node.right)]
    if isinstance(node, ast.Subscript):
        name = ast.unparse(node.value).split(".")[-1]
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if name == "Literal":
            return [{"enum": [ast.literal_eval(part) for part in parts]}]
        if name in ("list", "tuple", "Sequence"):
            return [{"type": "array", "items": {"anyOf": [*_choices(parts[0]), INTERPOLATION]}}]
        return [{"type": "object"}] if name in ("dict", "Mapping") else [{}]
    return [dict(_TYPES.get(ast.unparse(node), {}))]


if __name__ == "__main__":
    write_schemas()
