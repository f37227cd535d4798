"""One browser for all tests of the report that need one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.report.chromium import NAMES, Chromium, installed


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    program = installed()
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed (.ci/browser installs one)")
    with Chromium(program, tmp_path_factory.mktemp("profile")) as browser:
        yield browser
