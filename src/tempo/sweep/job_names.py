"""Readable names for the folders of sweeps and jobs, short enough for any file system."""

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
    """Return `optimizer.wd,seed__model=densenet40__3f9a1200`: swept keys, fixed overrides, a hash of both.

    The values of the swept keys are left out, so a grid keeps its folder when values are added.
    """
    # Sorted, so that the same overrides in another order find the same folder.
    identity = json.dumps([config_name, sorted(grid.fixed), sorted(grid.keys)])
    keys = ",".join(bare(key) for key in grid.keys) or "single"
    fixed = ",".join(_pair(override, {}) for override in grid.fixed)
    readable = f"{keys}__{fixed}" if fixed else keys
    return f"{readable[:LONGEST_NAME].rstrip(',._-')}__{_digest(identity)}"


def job_slug(keys: Sequence[str], swept: Sequence[str], *, hashed: bool = False) -> str:
    """Return the name of a job's folder, `lr=0.0123,optimizer=adam`, from its own overrides alone.

    `hashed` adds a hash, in case another job has the same name.
    """
    last = [bare(key).rpartition(".")[2] for key in keys]
    # The last part of each dotted key, or the whole key if two end alike.
    short = {key: name if last.count(name) == 1 else bare(key) for key, name in zip(keys, last, strict=True)}
    slug = ",".join(_pair(override, short) for override in swept) or "job"
    if len(slug) <= LONGEST_SLUG and not hashed:
        return slug
    return f"{slug[: LONGEST_SLUG - 10].rstrip(',.=-')}__{_digest(json.dumps(swept))}"


def job_slugs(grid: Grid) -> list[str]:
    """Return the names of all jobs of a grid."""
    slugs = [job_slug(grid.keys, combination.swept) for combination in grid.combinations]
    times = Counter(slugs)
    return [
        job_slug(grid.keys, combination.swept, hashed=times[slug] > 1)
        for slug, combination in zip(slugs, grid.combinations, strict=True)
    ]


def _pair(override: str, short: dict[str, str]) -> str:
    key, equals, value = override.partition("=")
    return _plain(short.get(key, bare(key))) + equals + _plain(short_number(value.replace("\\", "")))


def _plain(text: str) -> str:
    """Keep letters, digits and `._+-=,`; replace any run of other characters by one `-`."""
    return re.sub(r"[^\w.+=,-]+", "-", text).strip("-") or "none"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
