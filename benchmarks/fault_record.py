"""Record of faults.py: counts by variant, and how it is continued in a later sitting."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from fault_variants import TINY, VARIANTS

COUNTED = ("runs", "resumed", "identical", "lost", "inside_a_write", "left_processes")


@dataclass
class Tally:
    """Outcomes of the runs of one variant."""

    runs: int = 0
    resumed: int = 0
    identical: int = 0
    lost: int = 0
    signals: Counter[str] = field(default_factory=Counter)
    moments: Counter[str] = field(default_factory=Counter)
    inside_a_write: int = 0
    """Number of kills that left an unfinished file."""
    left_processes: int = 0
    differences: list[str] = field(default_factory=list)


def summary(found: dict[str, Tally]) -> dict[str, Any]:
    """Sum the counts over all variants, and list them by variant."""
    totals = {name: sum(getattr(tally, name) for tally in found.values()) for name in COUNTED}
    signals, moments = Counter[str](), Counter[str]()
    for tally in found.values():
        signals.update(tally.signals)
        moments.update(tally.moments)
    overrides = {variant.name: list(variant.overrides) for variant in VARIANTS}
    return {
        **totals,
        "stops": sum(signals.values()),
        "signals": dict(signals),
        "moments": dict(moments),
        "all_overrides": list(TINY),
        "variants": [
            {"name": name, "overrides": overrides[name], **vars(tally)}
            for name, tally in found.items()
            if tally.runs
        ],
    }


def earlier(record: Path, origin: dict[str, Any]) -> tuple[dict[str, Tally], list[dict[str, Any]]]:
    """Return the tallies and sittings of a record of the same command, commit and device, if there is one."""
    found: dict[str, Tally] = {}
    if not record.is_file():
        return found, []
    before = json.loads(record.read_text(encoding="utf-8"))
    if any(before.get(key) != origin[key] for key in ("command", "git", "device", "versions")):
        return found, []
    for variant in before["variants"]:
        values = {key.name: variant[key.name] for key in fields(Tally)}
        values |= {key: Counter(values[key]) for key in ("signals", "moments")}
        found[variant["name"]] = Tally(**values)
    return found, before["sittings"]
