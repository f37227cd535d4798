"""The energy that training takes, measured where the machine has counters and otherwise estimated."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import pytorch_lightning as pl

from tempo.record import RunRecord

JOULES_PER_KWH = 3.6e6
_MEASURED = {"intel_rapl": "RAPL", "intel_power_gadget": "Power Gadget", "windows_emi": "Windows EMI"}


class EnergyMeter(pl.Callback):
    """Adds up the joules of processor and GPUs from the start of the fit to its end, validation included.

    The readings are codecarbon's, in its offline mode: RAPL counters and NVML where they are there. A
    processor without counters is estimated by codecarbon from its rated power and the CPU time of this
    process and its children; `record.energy["source"]` says which. Counters see the whole machine, so a run
    that shares it is charged for its neighbours, and one on several nodes for the first alone; an estimate is
    of the first process alone. Memory is left out: codecarbon guesses it from its size.

    Source: codecarbon, https://docs.codecarbon.io.
    """

    def __init__(self, record: RunRecord) -> None:
        self.record = record
        self.joules = {"cpu": 0.0, "gpu": 0.0}
        self.source = ""
        self._tracker: Any = None

    def state_dict(self) -> dict[str, Any]:
        """What the run has taken so far; plain values."""
        self._read()
        return {"joules": dict(self.joules)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.joules = dict(state_dict["joules"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to count; one process is enough, since counters see the whole machine."""
        if not trainer.is_global_zero:
            return
        # Here and not above: an extra, and half a second.
        from codecarbon import OfflineEmissionsTracker

        logging.getLogger("codecarbon").setLevel(logging.CRITICAL)  # it greets before it reads log_level
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._tracker = OfflineEmissionsTracker(
                country_iso_code="FRA",  # asked for, and without effect on joules
                output_methods=[],
                log_level="critical",
                tracking_mode="process",
                allow_multiple_runs=True,
            )
            self._tracker.start_task()
        hardware = getattr(self._tracker, "_hardware", [])
        self.source = _source(hardware, processes=trainer.world_size, nodes=trainer.num_nodes)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what was counted into the record."""
        if self._tracker is None:
            return
        self._read(goes_on=False)
        total = sum(self.joules.values())
        self.record.energy = {"joules": total, **self.joules, "source": self.source}

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """The same for a run that is cut or diverges."""
        self.on_fit_end(trainer, pl_module)

    def _read(self, goes_on: bool = True) -> None:
        if self._tracker is None:
            return
        spent = self._tracker.stop_task()
        self.joules["cpu"] += JOULES_PER_KWH * spent.cpu_energy
        self.joules["gpu"] += JOULES_PER_KWH * spent.gpu_energy
        if goes_on:
            self._tracker.start_task()
        else:
            self._tracker = None


def _source(hardware: list[Any], *, processes: int, nodes: int) -> str:
    """In words, where the numbers come from, and of how much; codecarbon keeps this in its parts alone."""
    words, estimate = [], "CPU estimated from its rated power and load"
    if processes > 1:
        estimate += f" by one process of {processes}"
    for part in hardware:
        kind = type(part).__name__
        if kind == "CPU":
            mode = str(getattr(part, "_mode", ""))
            words.append(f"CPU measured by {_MEASURED[mode]}" if mode in _MEASURED else estimate)
        elif kind == "GPU":
            words.append("GPU measured by NVML")
        elif kind != "RAM":
            words.append(f"{kind} as codecarbon reads it")
    if nodes > 1:
        words.append(f"one node of {nodes}")
    return ", ".join(words)
