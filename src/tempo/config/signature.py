"""The schema of a `_target_`, read from its source: nothing is imported, so torch is not either."""

from __future__ import annotations

import ast
import functools
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tempo.errors import UserError, nearest
from tempo.paths import ROOT

Signature = dict[str, str]
"""Keyword parameter -> its annotation as it stands in the source."""


def signature_of(target: str) -> Signature | None:
    """Keyword parameters of a class or function of this project; None for a target of another package.

    Raises:
        UserError: the module is one of ours but does not define the name.
    """
    found = _parameters_of(target)
    return None if found is None else found[0]


def required_by(target: str) -> frozenset[str]:
    """The parameters among those of `signature_of` that have no default."""
    found = _parameters_of(target)
    return frozenset() if found is None else found[1]


@functools.cache
def _parameters_of(target: str) -> tuple[Signature, frozenset[str]] | None:
    module, _, name = target.rpartition(".")
    path = _module_file(module)
    if path is None:
        return None
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return _parameters(node)
        if isinstance(node, ast.ClassDef) and node.name == name:
            return _class_parameters(node)
    raise UserError(
        f"_target_ {target}: {path.name} defines no '{name}'; leave it out, or name a class or function there"
    )


def check_types(where: str, values: Mapping[str, Any], signature: Signature) -> None:
    """Compare the values of a configuration node with annotations.

    Raises:
        UserError: an unknown key (the nearest one is named) or a value of another type.
    """
    prefix = f"{where}." if where else ""
    for key, value in values.items():
        if key not in signature:
            raise UserError(f"{prefix}{key} is not a key.{nearest(key, signature)} Known: {_list(signature)}")
        if not fits(value, signature[key]):
            raise UserError(
                f"{prefix}{key}={value!r} is not {_words(signature[key])}; set {prefix}{key}=<value>"
            )


def check_present(where: str, values: Mapping[str, Any], required: Iterable[str]) -> None:
    """UserError for a key that a configuration node must have and has not."""
    prefix = f"{where}." if where else ""
    for key in sorted(set(required) - set(values)):
        raise UserError(f"{prefix}{key} is missing; leave ~{prefix}{key} out, or set {prefix}{key}=<value>")


def fits(value: Any, annotation: str) -> bool:
    """Whether a plain value (number, text, bool, None, list, mapping) agrees with an annotation."""
    return _fits(value, ast.parse(annotation, mode="eval").body)


def _fits(value: Any, node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return _fits(value, node.left) or _fits(value, node.right)
    if isinstance(node, ast.Constant):
        return value is None if node.value is None else True
    if isinstance(node, ast.Subscript):
        return _fits_generic(value, ast.unparse(node.value).split(".")[-1], node.slice)
    match ast.unparse(node).split(".")[-1]:
        case "bool":
            return isinstance(value, bool)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float":
            # Infinity is a value of its own in a few places; NaN never means anything.
            return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)
        case "str":
            return isinstance(value, str)
        case "dict" | "Mapping":
            return isinstance(value, Mapping)
        case _:
            return True


def _fits_generic(value: Any, name: str, inner: ast.expr) -> bool:
    parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    if name == "Literal":
        return any(
            value == ast.literal_eval(part) and type(value) is type(ast.literal_eval(part)) for part in parts
        )
    if name in ("tuple", "list", "Sequence"):
        if not isinstance(value, (list, tuple)):
            return False
        if name != "tuple" or ast.unparse(parts[-1]) in ("...", "Ellipsis"):
            return all(_fits(each, parts[0]) for each in value)
        return len(value) == len(parts) and all(map(_fits, value, parts))
    if name in ("dict", "Mapping"):
        return isinstance(value, Mapping)
    return True


def _words(annotation: str) -> str:
    names = {
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "str": "text",
        "None": "null",
    }
    found = []
    for part in _alternatives(ast.parse(annotation, mode="eval").body):
        if isinstance(part, ast.Subscript) and ast.unparse(part.value) == "Literal":
            values = part.slice.elts if isinstance(part.slice, ast.Tuple) else [part.slice]
            found.append(
                f"{'one of ' * (len(values) > 1)}{', '.join(str(ast.literal_eval(v)) for v in values)}"
            )
        else:
            found.append(names.get(ast.unparse(part), ast.unparse(part)))
    return " or ".join(found)


def _alternatives(node: ast.expr) -> list[ast.expr]:
    """The parts of `a | b | c`."""
    if isinstance(node, ast.BinOp):
        return [*_alternatives(node.left), *_alternatives(node.right)]
    return [node]


def _list(signature: Signature) -> str:
    return ", ".join(sorted(signature)) or "none"


def _module_file(module: str) -> Path | None:
    base = ROOT / "src" / Path(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _parameters(node: ast.FunctionDef) -> tuple[Signature, frozenset[str]]:
    ordered, named = node.args.args, node.args.kwonlyargs
    without_default = [
        *ordered[: len(ordered) - len(node.args.defaults)],
        *(each for each, default in zip(named, node.args.kw_defaults, strict=True) if default is None),
    ]
    annotations = {
        each.arg: ast.unparse(each.annotation) if each.annotation else "Any"
        for each in (*ordered, *named)
        if each.arg != "self"
    }
    return annotations, frozenset(each.arg for each in without_default) - {"self"}


def _class_parameters(node: ast.ClassDef) -> tuple[Signature, frozenset[str]]:
    for each in node.body:
        if isinstance(each, ast.FunctionDef) and each.name == "__init__":
            return _parameters(each)
    fields = [
        (each.target.id, each)
        for each in node.body
        if isinstance(each, ast.AnnAssign)
        and isinstance(each.target, ast.Name)
        and "ClassVar" not in ast.unparse(each.annotation)
    ]
    annotations = {name: ast.unparse(each.annotation) for name, each in fields}
    return annotations, frozenset(name for name, each in fields if each.value is None)
