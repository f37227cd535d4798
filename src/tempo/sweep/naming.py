"""Names of folders that a person can read and a file system can hold."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence

from tempo.sweep.grid import Grid, bare, short_number

LONGEST_SLUG = 100
LONGEST_NAME = 80


def sweep_name(grid: Grid, config_name: str) -> str:
    """`optimizer.wd,seed__model=densenet40__3f9a1200`: swept keys, what is fixed, and a hash of both.

    The values of the swept keys are left out: a grid that grows keeps its folder.
    """
    identity = json.dumps([config_name, sorted(grid.fixed), sorted(grid.keys)])
    keys = ",".join(bare(key) for key in grid.keys) or "single"
    fixed = ",".join(_pair(each, {}) for each in grid.fixed)
    readable = f"{keys}__{fixed}" if fixed else keys
    return f"{readable[:LONGEST_NAME].rstrip(',._-')}__{_digest(identity)}"


def point_slug(keys: Sequence[str], swept: Sequence[str], *, marked: bool) -> str:
    """`lr=0.0123,optimizer=adam` for one point; `marked` adds a hash where another point is called so."""
    slug = _slug(swept, _short_keys(keys))
    return _marked(slug, swept) if marked else slug


def job_slugs(grid: Grid) -> list[str]:
    """`wd=1e-4,seed=0` for each job: follows from the job's own overrides, whatever else is in the grid."""
    short = _short_keys(grid.keys)
    slugs = [_slug(each.swept, short) for each in grid.combinations]
    times = Counter(slugs)
    return [
        slug if times[slug] == 1 else _marked(slug, each.swept)
        for slug, each in zip(slugs, grid.combinations, strict=True)
    ]


def _slug(swept: Sequence[str], short: dict[str, str]) -> str:
    slug = ",".join(_pair(each, short) for each in swept) or "job"
    return slug if len(slug) <= LONGEST_SLUG else _marked(slug, swept)


def _marked(slug: str, swept: Sequence[str]) -> str:
    return f"{slug[: LONGEST_SLUG - 10].rstrip(',.=-')}__{_digest(json.dumps(swept))}"


def _short_keys(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each dotted key, the whole key where two end alike."""
    last = [bare(key).rpartition(".")[2] for key in keys]
    return {key: name if last.count(name) == 1 else bare(key) for key, name in zip(keys, last, strict=True)}


def _pair(override: str, short: dict[str, str]) -> str:
    key, equals, value = override.partition("=")
    return _plain(short.get(key, bare(key))) + equals + _value(value)


def _value(text: str) -> str:
    return _plain(short_number(text.replace("\\", "")))


def _plain(text: str) -> str:
    """Letters, digits and `._+-=,` stay; each run of others becomes one `-`."""
    return re.sub(r"[^\w.+=,-]+", "-", text).strip("-") or "none"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
