"""Check plain values (number, text, bool, None, list, mapping) against annotations as text, and ranges."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tempo.config.keys_elsewhere import key_here
from tempo.errors import UserError, nearest

MOST_COUNT = 2**31 - 1
"""Largest whole number for a key that counts something."""
_NOTHING = object()
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "None": "null",
    "list[str]": "a list such as [first, second]",
}


def check_types(
    where: str,
    values: Mapping[str, Any],
    annotations: Mapping[str, str],
    examples: Callable[[], Mapping[str, Any]] = dict,
) -> None:
    """Compare the values of a node with the annotations of its keys; `where` is the node's dotted key.

    `examples` returns values that the keys can have, for the error line.

    Raises:
        UserError: an unknown key (the message suggests the nearest one) or a value of the wrong type.
    """
    prefix = f"{where}." if where else ""
    for key, value in values.items():
        if key not in annotations:
            if line := key_here(f"{prefix}{key}", value):
                raise UserError(line)
            known = ", ".join(sorted(annotations)) or "none"
            raise UserError(
                f"{prefix}{key} is not a key.{nearest(key, annotations)} Leave it out. Known: {known}"
            )
        if not fits(value, annotations[key]):
            wanted = _in_words(annotations[key])
            example = examples().get(key, _NOTHING)
            fixed = None if example is _NOTHING else override(f"{prefix}{key}", example)
            remedy = f"set {fixed}" if fixed else _by_annotation(f"{prefix}{key}", value, annotations[key])
            raise UserError(f"{prefix}{key}={value!r} is not {wanted}; {remedy}")


def check_present(
    where: str,
    values: Mapping[str, Any],
    required: Iterable[str],
    examples: Callable[[], Mapping[str, Any]] = dict,
) -> None:
    """Raise UserError if a node lacks a required key; `examples` as in `check_types`."""
    prefix = f"{where}." if where else ""
    for key in sorted(set(required) - set(values)):
        line = f"{prefix}{key} is missing; leave ~{prefix}{key} out"
        example = examples().get(key, _NOTHING)
        fixed = None if example is _NOTHING else override(f"{prefix}{key}", example)
        raise UserError(f"{line}, or set {fixed}" if fixed else line)


def override(key: str, value: object) -> str | None:
    """Return the override of a key as a command has it; None for a value that needs quotes."""
    text = _plain_text(value)
    return None if re.search(r"[\s'\"$(){}]", text) else f"{key}={text}"


def _plain_text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_plain_text, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _by_annotation(key: str, value: object, annotation: str) -> str:
    """Return a remedy for a value of the wrong type if no other value of the key is known."""
    for part in _alternatives(ast.parse(annotation, mode="eval").body):
        if isinstance(part, ast.Subscript) and ast.unparse(part.value) == "Literal":
            values = part.slice.elts if isinstance(part.slice, ast.Tuple) else [part.slice]
            return f"set {key}={_plain_text(ast.literal_eval(values[0]))}"
        if ast.unparse(part) == "str" and isinstance(value, (int, float)):
            return f"write it in two pairs of quotes, '{key}=\"{_plain_text(value)}\"'"
    return f"leave {key} out, or give it such a value"


def fits(value: Any, annotation: str) -> bool:
    """Whether a plain value fits an annotation; every value fits an annotation unknown here."""
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
            # Some keys may be infinite, but NaN is never a meaningful setting.
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
        choices = [ast.literal_eval(part) for part in parts]
        return any(value == choice and type(value) is type(choice) for choice in choices)  # True == 1
    if name in ("tuple", "list", "Sequence"):
        if not isinstance(value, (list, tuple)):
            return False
        if name != "tuple" or ast.unparse(parts[-1]) in ("...", "Ellipsis"):
            return all(_fits(item, parts[0]) for item in value)
        return len(value) == len(parts) and all(map(_fits, value, parts))
    if name in ("dict", "Mapping"):
        return isinstance(value, Mapping)
    return True


def _in_words(annotation: str) -> str:
    found = []
    for part in _alternatives(ast.parse(annotation, mode="eval").body):
        if isinstance(part, ast.Subscript) and ast.unparse(part.value) == "Literal":
            values = part.slice.elts if isinstance(part.slice, ast.Tuple) else [part.slice]
            choices = ", ".join(str(ast.literal_eval(value)) for value in values)
            found.append(f"one of {choices}" if len(values) > 1 else choices)
        else:
            found.append(_WORDS.get(ast.unparse(part), ast.unparse(part)))
    return " or ".join(found)


def _alternatives(node: ast.expr) -> list[ast.expr]:
    """Return the parts of `a | b | c`."""
    if isinstance(node, ast.BinOp):
        return [*_alternatives(node.left), *_alternatives(node.right)]
    return [node]


@dataclass(frozen=True, kw_only=True)
class Range:
    """The numbers that a key may have; None is in every range.

    `note` explains the upper limit. `example` is the value that the error message suggests.
    """

    at_least: float | None = None
    above: float | None = None
    below: float | None = None
    at_most: float = MOST_COUNT
    note: str = ""
    example: float | None = None

    def check(self, value: object, where: str) -> None:
        """Raise UserError if a number, alone or in a list, is out of range; `where` is its dotted key."""
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, bool) or not isinstance(number, int | float):
                continue
            example = f"[{self._example}]" if isinstance(value, list) else self._example
            if isinstance(number, float) and math.isinf(number):
                raise UserError(f"{where}={value} must be finite; set {where}={example}")
            if wrong := self._broken_bound(number):
                raise UserError(f"{where}={value} must be {wrong}; set e.g. {where}={example}")

    def _broken_bound(self, value: float) -> str:
        if self.at_least is not None and value < self.at_least:
            return f"at least {self.at_least:g}"
        if self.above is not None and value <= self.above:
            return f"above {self.above:g}"
        if self.below is not None and value >= self.below:
            return f"below {self.below:g}"
        return f"at most {self.at_most:.0f}{self.note}" if value > self.at_most else ""

    @property
    def _example(self) -> str:
        if self.example is not None:
            return f"{self.example:g}"
        return f"{self.at_least if self.at_least is not None else (self.above or 0) + 1:g}"
