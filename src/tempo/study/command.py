"""What `src/tune.py` was asked for: its settings, and the overrides that each of its runs gets."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from tempo.errors import UserError
from tempo.study.plan import TuneSettings


def asked(config: DictConfig) -> tuple[TuneSettings, list[str]]:
    """The settings and the kept overrides of the command that Hydra composed.

    Raises:
        UserError: a value out of its range, or an override that the procedure itself sets.
    """
    node = OmegaConf.to_container(config, resolve=True)
    assert isinstance(node, dict)
    settings = node.get("tune")
    if not isinstance(settings, dict):
        raise UserError(f"tune={settings!r} must be a group of keys: leave it out, or override tune.<key>")
    kept = kept_overrides([str(each) for each in HydraConfig.get().overrides.task])
    return TuneSettings.of({str(key): value for key, value in settings.items()}), kept


def kept_overrides(overrides: Sequence[str]) -> list[str]:
    """The overrides that each run of the procedure gets; UserError for one that the procedure itself sets."""
    kept = [each for each in overrides if not _key(each).startswith("tune.")]
    for each in kept:
        if _key(each) == "trainer.max_steps":
            raise UserError(f"{each}: the procedure plans in epochs; set trainer.epochs instead")
        if _key(each).partition(".")[0] in ("scheduler", "resume", "preview"):
            raise UserError(f"{each}: the procedure sets it by itself; leave it out")
    return kept


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")
