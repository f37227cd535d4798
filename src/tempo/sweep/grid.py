"""From override strings to the combinations of a grid."""

from __future__ import annotations

import itertools
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep
from omegaconf import ListConfig

from tempo.errors import UserError


@dataclass(frozen=True)
class Combination:
    """One job: all its overrides, and those of them that tell it from the others."""

    overrides: tuple[str, ...]
    swept: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """The swept keys, the overrides that all jobs share, and the jobs in order."""

    keys: tuple[str, ...]
    fixed: tuple[str, ...]
    combinations: tuple[Combination, ...]
    repeated: tuple[Combination, ...] = ()
    """Left out: combinations with the overrides of an earlier one, as `seed=0,0` has."""


def parse_grid(
    parser: OverridesParser,
    arguments: Sequence[str],
    params: Mapping[str, Any],
    rows: Sequence[Any],
    max_jobs: int = 1000,
) -> Grid:
    """The product of all swept keys.

    `params` (key -> values) are axes that the configuration brings along; an argument with the same key
    replaces one. `rows` is one more axis, each point of which is several overrides at once; a row replaces
    what has the same key.

    Raises:
        UserError: an axis without values, or one that is no list of values; more than `max_jobs` jobs.
    """
    if not all(isinstance(row, (str, list, tuple, ListConfig)) for row in rows):
        raise UserError(
            "hydra.sweeper.rows: each row is one text, 'optimizer.lr=0.1 seed=0', or a list of texts"
        )
    by_key = overrides_by_key(parser, arguments, params)
    bundles = [shlex.split(row) if isinstance(row, str) else [str(each) for each in row] for row in rows]
    named = [each.get_key_element() for bundle in bundles for each in parser.parse_overrides(bundle)]
    kept = {key: each for key, each in by_key.items() if key not in named}
    swept_keys = {key: each for key, each in kept.items() if each.is_sweep_override()}
    _check_number(swept_keys, len(bundles), max_jobs)
    axes = {key: _points(each) for key, each in swept_keys.items()}
    fixed = tuple(str(each.input_line) for each in kept.values() if not each.is_sweep_override())
    keys = tuple(dict.fromkeys([*named, *axes]))
    choices = [*([[tuple(each) for each in bundles]] if bundles else []), *axes.values()]
    swept = [tuple(itertools.chain.from_iterable(each)) for each in itertools.product(*choices)]
    distinct, repeated = list[Combination](), list[Combination]()
    seen = set[tuple[str, ...]]()
    for each in swept:
        (repeated if each in seen else distinct).append(Combination((*fixed, *each), each))
        seen.add(each)
    return Grid(keys, fixed, tuple(distinct), tuple(repeated))


def overrides_by_key(
    parser: OverridesParser, arguments: Sequence[str], params: Mapping[str, Any]
) -> dict[str, Override]:
    """The axes that the configuration brings along, then the command line's, the last of each key."""
    texts = [f"{key}={_as_text(value)}" for key, value in params.items()] + list(arguments)
    return {each.get_key_element(): each for each in parser.parse_overrides(texts)}


def bare(key: str) -> str:
    """`+data.x` and `~data.x` are about `data.x`."""
    return key.lstrip("+~")


def short_number(text: str) -> str:
    """`1e-05` and `0.00001` as `1e-5`, `0.1` and `10.0` as they are; what is no float stays what it is."""
    if not re.fullmatch(r"[+-]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][+-]?\d+)?", text) or float(text) == 0:
        return text
    number = float(text)
    shortest = next(each for digits in range(18) if float(each := f"{number:.{digits}e}") == number)
    mantissa, _, exponent = shortest.partition("e")
    decimal, scientific = repr(number), f"{mantissa}e{int(exponent)}"
    return decimal if 0.01 <= abs(number) < 1e5 or len(decimal) < len(scientific) else scientific


def _check_number(swept: Mapping[str, Override], rows: int, max_jobs: int) -> None:
    """UserError for more jobs than anybody means, before they are counted one by one."""
    sizes = {"rows": rows} if rows else {}
    sizes |= {key: _size(each.value()) for key, each in swept.items() if each.is_discrete_sweep()}
    total = math.prod(sizes.values())
    if total > max_jobs:
        counted = " x ".join(f"{size:,} of {key}" for key, size in sizes.items())
        raise UserError(
            f"{total:,} jobs ({counted}) are more than hydra.sweeper.max_jobs={max_jobs}: name fewer "
            f"values, or hydra.sweeper.max_jobs={total} if you mean it"
        )


def _size(values: Any) -> int:
    """How many values an axis has; a set of names to be matched counts as one."""
    if isinstance(values, ChoiceSweep):
        return len(values.list)
    if isinstance(values, RangeSweep):
        start, stop, step = (float(each or 0) for each in (values.start, values.stop, values.step))
        return max(0, math.ceil((stop - start) / step)) if step else 0
    return 1


def _points(override: Override) -> list[tuple[str, ...]]:
    key = override.get_key_element()
    if not override.is_discrete_sweep():
        raise UserError(
            f"{override.input_line}: a grid needs a list of values, e.g. {key}=1e-4,1e-5 or "
            f"{key}=range(1,4); hydra/sweeper=search draws from an interval"
        )
    points: list[tuple[str, ...]] = [
        (f"{key}={short_number(value)}",) for value in override.sweep_string_iterator()
    ]
    if not points:
        raise UserError(
            f"{override.input_line} has no value, so the grid is empty: name at least one, e.g. {key}=1,2"
        )
    return points


def _as_text(value: Any) -> str:
    if isinstance(value, (list, tuple, ListConfig)):
        return ",".join(map(_as_text, value))
    return "null" if value is None else str(value)
