"""Report each epoch of a run to its search's study, and learn whether to stop early."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import math
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tempo.config.schema import RunConfig
from tempo.errors import UserError

log = logging.getLogger(__name__)

ENVIRONMENT_KEY = "TEMPO_TRIAL"
"""Environment variable with the trial of a process group; a file would expose the storage's password."""
STOPPED_AFTER = "stopped_after"
"""Attribute of a trial: the epoch after which its pruner stopped it."""
REDUCTION_FACTOR = 3
"""Hyperband's reduction factor: one in three trials continues at each rung."""
MEDIAN_STARTUP_TRIALS = 4
"""Trials that the median pruner lets finish before it stops any."""
SQLITE_WAIT_SECONDS = 60
_JOURNAL = "journal://"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Location of a run's trial. `epochs` is the length of a run that is not stopped early."""

    storage: str
    study: str
    number: int
    pruner: str
    epochs: int

    def environment(self) -> dict[str, str]:
        """Return the variables that tell another process its trial."""
        return {ENVIRONMENT_KEY: json.dumps(asdict(self))}

    @classmethod
    def from_environment(cls) -> Trial | None:
        """Invert `environment`; None in a run outside a search."""
        text = os.environ.get(ENVIRONMENT_KEY)
        return cls(**json.loads(text)) if text else None


def trial_of(hydra: Any, epochs: int) -> Trial | None:
    """Return the trial that the search has set in a job's `hydra` node; None outside a search."""
    sweeper = hydra.sweeper
    if sweeper is None or sweeper.get("trial") is None:
        return None
    return Trial(
        storage=storage_url(str(sweeper.storage), str(hydra.sweep.dir)),
        study=str(sweeper.study_name),
        number=int(sweeper.trial),
        pruner=str(sweeper.pruner),
        epochs=epochs,
    )


def storage_url(storage: str, folder: str) -> str:
    """Return a URL: `sqlite` and `journal` are files in the sweep's folder; other values already are URLs."""
    files = {"sqlite": f"sqlite:///{folder}/study.db", "journal": f"{_JOURNAL}{folder}/study.journal"}
    return files.get(storage, storage)


def open_storage(url: str) -> Any:
    """Return Optuna's storage at a URL; if it cannot be reached, its driver may raise any exception."""
    storages = importlib.import_module("optuna").storages
    with quiet_optuna():
        if url.startswith(_JOURNAL):
            file = importlib.import_module("optuna.storages.journal").JournalFileBackend
            return storages.JournalStorage(file(url.removeprefix(_JOURNAL)))
        if url.startswith("redis"):
            return storages.get_storage(url)
        # Several jobs write at the same time.
        wait = {"connect_args": {"timeout": SQLITE_WAIT_SECONDS}} if url.startswith("sqlite") else {}
        return storages.RDBStorage(url, engine_kwargs=wait)


def close_storage(storage: Any) -> None:
    """Close the connections of a storage that `open_storage` opened."""
    storage.remove_session()
    if (engine := getattr(storage, "engine", None)) is not None:
        engine.dispose()


def make_pruner(name: str, epochs: int) -> Any:
    """Return Optuna's pruner for one value per epoch, counted from 1."""
    pruners = importlib.import_module("optuna").pruners
    if name == "hyperband":
        return pruners.HyperbandPruner(min_resource=1, max_resource=epochs, reduction_factor=REDUCTION_FACTOR)
    if name == "median":
        return pruners.MedianPruner(n_startup_trials=MEDIAN_STARTUP_TRIALS, n_warmup_steps=0)
    return pruners.NopPruner()


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Hide the lines and warnings that Optuna prints for its own users."""
    optuna = importlib.import_module("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="optuna")
        yield


class Reporting:
    """Reports a running trial to its study. If the study cannot be reached, the run continues unpruned."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self._open: Any = None
        self._storage: Any = None
        self._lost = False

    def report(self, epoch: int, value: float) -> bool:
        """Report the validation of an epoch, counted from 1; return whether the pruner stops the run here."""
        if self._lost:
            return False
        try:
            with quiet_optuna():
                return self._report(epoch, value)
        except Exception as error:  # noqa: BLE001 - databases, drivers and networks raise anything
            self._lost = True
            reason = " ".join(str(error).split())[:200]
            log.warning("the study cannot be reached (%s): this run is not stopped early", reason)
            return False

    def close(self) -> None:
        """Close the connection."""
        if self._storage is not None:
            with contextlib.suppress(Exception):  # the database may be gone
                close_storage(self._storage)
        self._open, self._storage = None, None

    def _report(self, epoch: int, value: float) -> bool:
        if self._open is None:
            self._open = self._opened()
        storage, trial_id = self._open.study._storage, self._open._trial_id
        if epoch not in storage.get_trial(trial_id).intermediate_values:  # a resumed run repeats an epoch
            self._open.report(value, step=epoch)
        known = storage.get_trial(trial_id)
        if STOPPED_AFTER in known.user_attrs:  # stopped, then killed; asked again, the pruner may differ
            return True
        stop = bool(math.isfinite(value) and self._open.should_prune())
        if stop:
            self._open.set_user_attr(STOPPED_AFTER, epoch)
        return stop

    def _opened(self) -> Any:
        optuna = importlib.import_module("optuna")
        self._storage = open_storage(self.trial.storage)
        study = optuna.load_study(
            study_name=self.trial.study,
            storage=self._storage,
            sampler=optuna.samplers.RandomSampler(),  # never used: the trial's values are already drawn
            pruner=make_pruner(self.trial.pruner, self.trial.epochs),
        )
        known = {trial.number: trial._trial_id for trial in study.get_trials(deepcopy=False)}
        return optuna.Trial(study, known[self.trial.number])


def check_pruner(pruner: str, config: RunConfig) -> None:
    """Raise UserError if a run of this configuration lacks the validation or epochs that the pruner needs."""
    if pruner == "none":
        return
    if not config.data.validates:
        raise UserError(
            f"hydra.sweeper.pruner={pruner} judges by validation, but data.val_size=0; set "
            "data.val_size=0.1, or hydra.sweeper.pruner=none"
        )
    if pruner == "hyperband" and config.trainer.max_steps is not None:
        raise UserError(
            "hydra.sweeper.pruner=hyperband counts epochs; set trainer.epochs=<n>, not trainer.max_steps"
        )


def without_password(text: str) -> str:
    """Replace the password of any URL in a text, so that the text can be shown."""
    return re.sub(r"(://[^:/@\s]*):[^@/\s]*@", r"\1:***@", text)
