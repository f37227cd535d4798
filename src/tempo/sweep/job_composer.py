"""Compose the configurations of a sweep's jobs, reading the files of conf/ only once."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from tempo.config.resolve_interpolations import announced, composed, hydra_knows, plain, without_hydra

# Interpolations that depend on a single job; the chosen options are the same for all jobs that share a base.
_OF_ONE_JOB = re.compile(r"\$\{hydra:(?!runtime\.choices)")


@dataclass(frozen=True)
class _Base:
    """Configuration shared by jobs with the same options: the job's part, and Hydra's."""

    job: DictConfig
    hydra: Any


class JobComposer:
    """Composes a job as Hydra does, but reads each choice of options once.

    Hydra takes a tenth of a second per configuration, nearly all of it to read the files of the chosen
    options. Jobs with the same options differ only in values, which Hydra sets last.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self.loader, self.master = loader, master
        self._parser = OverridesParser.create(config_loader=loader)
        self._bases: dict[tuple[str, ...], _Base | None] = {}
        self._is_group: dict[str, bool] = {}

    def values(self, overrides: Sequence[str]) -> dict[str, Any]:
        """Return the sweep's configuration with these overrides, as plain values.

        Raises:
            HydraException, OmegaConfBaseException: an override that cannot be applied, as Hydra raises it.
        """
        parsed = self._parser.parse_overrides(list(overrides))
        options = [override for override in parsed if not self._sets_value(override)]
        base = self._base(tuple(str(override.input_line) for override in options))
        if base is None:
            return composed(self.loader.load_sweep_config(self.master, list(overrides)))
        config = copy.deepcopy(base.job)
        values = [override for override in parsed if override not in options]
        # Private: every public call reads all files again, a minute for 500 jobs instead of seconds.
        ConfigLoaderImpl._apply_overrides_to_config(values, config)
        base.hydra.hydra.overrides.task = list(overrides)
        with hydra_knows(base.hydra):
            return plain(config)

    def _base(self, options: tuple[str, ...]) -> _Base | None:
        """Return the configuration with these options; None if it depends on the single job."""
        if options not in self._bases:
            whole = self.loader.load_sweep_config(self.master, list(options))
            job = without_hydra(whole)
            # As in Hydra, an override of a key that does not exist is an error, not a new key.
            OmegaConf.set_struct(job, True)
            known = announced(whole)
            OmegaConf.set_readonly(known.hydra, False)
            self._bases[options] = None if _OF_ONE_JOB.search(OmegaConf.to_yaml(job)) else _Base(job, known)
        return self._bases[options]

    def _sets_value(self, override: Override) -> bool:
        """Whether an override only sets a value that is not Hydra's own and needs nothing from Hydra."""
        key = override.key_or_group
        if key not in self._is_group:
            self._is_group[key] = bool(self.loader.get_group_options(key, results_filter=None))
        return not (
            self._is_group[key]
            or override.package is not None
            or key.partition(".")[0] == "hydra"
            or _OF_ONE_JOB.search(str(override.input_line))
        )
