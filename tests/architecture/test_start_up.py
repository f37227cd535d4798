"""What must answer at once loads no torch, in a real interpreter."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.architecture.house import SRC
from tests.architecture.test_imports import SCRIPTS, light_sources

HEAVY = ("torch", "torchvision", "pytorch_lightning", "torchmetrics")


def heavy_modules_after(modules: list[str], heavy: tuple[str, ...] = HEAVY) -> list[str]:
    """Import `modules` in a new interpreter; which is the first to load heavy ones?"""
    program = (
        "import importlib, sys\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
        f"    heavy = [module for module in {heavy!r} if module in sys.modules]\n"
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


def test_scripts_start_without_torch() -> None:
    assert heavy_modules_after([source.module for source in SCRIPTS]) == []


def test_the_probe_would_notice() -> None:
    assert heavy_modules_after(["string", "wave", "json"], heavy=("wave",)) == ["wave loads wave"]
