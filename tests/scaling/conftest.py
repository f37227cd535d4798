"""What the tests of the benchmark share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scaling.points import Plan


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """The points of a command, in a folder of the test."""
    return Plan(tmp_path)
