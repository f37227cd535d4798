"""Convert values to JSON and back, and check that they fit the types of a record's fields."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict


def levels(value: Any) -> int:
    """Return how deep lists and mappings are nested in each other; 1 for a plain value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(levels, inner), default=0)


def fits(value: Any, kind: Any) -> bool:
    """Whether a value read from JSON fits the type of a field."""
    if is_typeddict(kind):
        types_of_keys = get_type_hints(kind)
        return isinstance(value, dict) and all(
            fits(inner, types_of_keys.get(key, Any)) for key, inner in value.items()
        )
    outer, inner_kinds = get_origin(kind), get_args(kind)
    if outer is types.UnionType:
        return any(fits(value, one) for one in inner_kinds)
    if outer is list:
        return isinstance(value, list) and all(fits(inner, inner_kinds[0]) for inner in value)
    if outer is dict:
        return isinstance(value, dict) and all(fits(inner, inner_kinds[1]) for inner in value.values())
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return kind is Any or isinstance(value, kind)


def plain(value: Any) -> Any:
    """Return strict JSON's values: text as keys, lists, and numbers that are not finite as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def numbers(value: Any) -> Any:
    """Undo `plain` for numbers: turn `"nan"` into a number again."""
    if isinstance(value, dict):
        return {key: numbers(inner) for key, inner in value.items()}
    return float(value) if value in ("nan", "inf", "-inf") else value
