"""What must answer at once loads no torch, in a real interpreter."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.architecture.house import SRC
from tests.architecture.test_imports import SCRIPTS, light_sources

HEAVY = ("torch", "torchvision", "pytorch_lightning", "torchmetrics")


def heavy_modules_after(modules: list[str]) -> list[str]:
    """Import `modules` in a new interpreter; which of the heavy ones came along?"""
    program = (
        "import importlib, sys\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
        f"    heavy = [module for module in {HEAVY!r} if module in sys.modules]\n"
        "    if heavy:\n"
        "        print(name, 'loads', *heavy)\n"
        "        break\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(SRC)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_light_rooms_load_without_torch() -> None:
    modules = [source.module for source in light_sources()]
    assert "tempo.config.check" in modules
    assert heavy_modules_after(modules) == []


@pytest.mark.parametrize("script", [source.module for source in SCRIPTS])
def test_scripts_start_without_torch(script: str) -> None:
    assert heavy_modules_after([script]) == []


def test_the_probe_would_notice() -> None:
    assert heavy_modules_after(["torch"]) == ["torch loads torch"]
