"""Turn override strings into the jobs of a grid."""

from __future__ import annotations

import itertools
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, RangeSweep
from omegaconf import ListConfig

from tempo.errors import UserError


@dataclass(frozen=True)
class Combination:
    """The overrides of one job: all of them, and those that distinguish it from other jobs."""

    overrides: tuple[str, ...]
    swept: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """The swept keys, the overrides that all jobs share, and the combinations in order."""

    keys: tuple[str, ...]
    fixed: tuple[str, ...]
    combinations: tuple[Combination, ...]
    n_repeated: int = 0
    """Number of combinations left out because they repeat an earlier one's overrides, as with `seed=0,0`."""


def parse_grid(
    parser: OverridesParser,
    arguments: Sequence[str],
    params: Mapping[str, Any],
    rows: Sequence[Any],
    max_jobs: int = 1000,
) -> Grid:
    """Return the product of all swept keys.

    `params` (key -> values) are axes from the configuration; an argument with the same key replaces one.
    `rows` is one more axis, whose points have several overrides each; a row replaces overrides of the same
    key.

    Raises:
        UserError: an axis has no values or is not a list of values, or there are more than `max_jobs` jobs.
    """
    if not all(isinstance(row, (str, list, tuple, ListConfig)) for row in rows):
        raise UserError(
            "hydra.sweeper.rows must be a list; write each row as one text, 'optimizer.lr=0.1 seed=0', or as "
            "a list of texts"
        )
    bundles = [tuple(shlex.split(row) if isinstance(row, str) else map(str, row)) for row in rows]
    in_rows = [parsed.get_key_element() for bundle in bundles for parsed in parser.parse_overrides([*bundle])]
    by_key = overrides_by_key(parser, arguments, params)
    single = {key: override for key, override in by_key.items() if key not in in_rows}
    swept = {key: override for key, override in single.items() if override.is_sweep_override()}
    _check_size(swept, len(bundles), max_jobs)
    fixed = tuple(str(override.input_line) for key, override in single.items() if key not in swept)
    axes = [*([bundles] if bundles else []), *(_points(override, parser) for override in swept.values())]
    points = [tuple(itertools.chain.from_iterable(point)) for point in itertools.product(*axes)]
    distinct = dict.fromkeys(points)
    combinations = tuple(Combination((*fixed, *point), point) for point in distinct)
    return Grid(tuple(dict.fromkeys([*in_rows, *swept])), fixed, combinations, len(points) - len(distinct))


def overrides_by_key(
    parser: OverridesParser, arguments: Sequence[str], params: Mapping[str, Any]
) -> dict[str, Override]:
    """Parse the axes of the configuration, then the command line; the last override of a key counts."""
    texts = [f"{key}={_as_text(value)}" for key, value in params.items()] + list(arguments)
    return {override.get_key_element(): override for override in parser.parse_overrides(texts)}


def bare(key: str) -> str:
    """Return `data.x` for `+data.x` and `~data.x`."""
    return key.lstrip("+~")


def short_number(text: str) -> str:
    """Return `1e-5` for `1e-05` and `0.00001`; leave `0.1`, `10.0` and text that is not a float unchanged."""
    if not re.fullmatch(r"[+-]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][+-]?\d+)?", text) or float(text) == 0:
        return text
    number = float(text)
    # 17 significant digits tell any two floats apart, so one of these lengths gives the number back.
    shortest = next(short for digits in range(18) if float(short := f"{number:.{digits}e}") == number)
    mantissa, _, exponent = shortest.partition("e")
    decimal, scientific = repr(number), f"{mantissa}e{int(exponent)}"
    return decimal if 0.01 <= abs(number) < 1e5 or len(decimal) < len(scientific) else scientific


def _check_size(swept: Mapping[str, Override], rows: int, max_jobs: int) -> None:
    """Refuse a grid that is too large before listing its jobs: a billion of them would fill the memory."""
    sizes = {"rows": rows} if rows else {}
    # An interval has no size here; `_points` refuses it with its own remedy.
    sizes |= {key: _size(axis.value()) for key, axis in swept.items() if axis.is_discrete_sweep()}
    total = math.prod(sizes.values())
    if total > max_jobs:
        counted = " x ".join(f"{size:,} of {key}" for key, size in sizes.items())
        raise UserError(
            f"{total:,} jobs ({counted}) exceed hydra.sweeper.max_jobs={max_jobs}; sweep fewer values, or "
            f"set hydra.sweeper.max_jobs={total}"
        )


def _size(values: Any) -> int:
    """Return the number of values on an axis; a pattern of option names counts as one."""
    if isinstance(values, ChoiceSweep):
        return len(values.list)
    if isinstance(values, RangeSweep):
        start, stop, step = (float(number or 0) for number in (values.start, values.stop, values.step))
        return max(0, math.ceil((stop - start) / step)) if step else 0
    return 1


def _points(override: Override, parser: OverridesParser) -> list[tuple[str, ...]]:
    key = override.get_key_element()
    if not override.is_discrete_sweep():
        raise UserError(
            f"{override.input_line} is not a list of values; set e.g. {key}=1e-4,1e-5 or {key}=range(1,4), "
            "or use hydra/sweeper=search, which draws from an interval"
        )
    pattern: Any = override.value()
    if isinstance(pattern, Glob):
        assert parser.config_loader is not None
        points = [(f"{key}={option}",) for option in pattern.filter(_options(parser.config_loader, key))]
    else:
        points = [(f"{key}={short_number(value)}",) for value in override.sweep_string_iterator()]
    if not points:
        raise UserError(
            f"{override.input_line} has no value, so the grid is empty; give at least one, e.g. {key}=1,2"
        )
    return list[tuple[str, ...]](points)


def _options(loader: ConfigLoader, group: str, below: str = "") -> list[str]:
    """Return the options of a group; unlike Hydra's own pattern, those in its folders too."""
    here = f"{group}/{below}".rstrip("/")
    folders = loader.get_group_options(here, results_filter=ObjectType.GROUP)
    within = [option for folder in folders for option in _options(loader, group, f"{below}{folder}/")]
    return [f"{below}{name}" for name in loader.get_group_options(here)] + within


def _as_text(value: Any) -> str:
    if isinstance(value, (list, tuple, ListConfig)):
        return ",".join(map(_as_text, value))
    return "null" if value is None else str(value)
