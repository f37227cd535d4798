"""Paths of the repository and of the data sets, independent of the working directory."""

from __future__ import annotations

import os
from pathlib import Path

from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"


def root(*parts: str) -> str:
    """Absolute path of `parts` below the repository: `${root:logs}`."""
    return str(ROOT.joinpath(*parts))


def data_root() -> str:
    """Folder of the data sets: the environment variable TEMPO_DATA, else `data/` in the repository."""
    return os.environ.get("TEMPO_DATA") or root("data")


def register_resolvers() -> None:
    """Make `${root:..}`, `${data_root:}`, `${mul:a,b}` and `${smoke_suffix:scale}` known to OmegaConf."""
    OmegaConf.register_new_resolver("root", root, replace=True)
    OmegaConf.register_new_resolver("data_root", data_root, replace=True)
    OmegaConf.register_new_resolver("mul", lambda a, b: float(a) * float(b), replace=True)
    OmegaConf.register_new_resolver("smoke_suffix", lambda scale: "_smoke" * (scale == "smoke"), replace=True)
