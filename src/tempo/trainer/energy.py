"""The energy that training takes, measured where the machine has counters and otherwise estimated."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import pytorch_lightning as pl
import torch

from tempo.record.run_json import RunRecord

JOULES_PER_KWH = 3.6e6
_NONE = {"cpu": 0.0, "gpu": 0.0}
_MEASURED = {"intel_rapl": "RAPL", "intel_power_gadget": "Power Gadget", "windows_emi": "Windows EMI"}


class EnergyMeter(pl.Callback):
    """Adds up the joules of processor and GPUs from the start of the fit to its end, validation included.

    The readings are codecarbon's, in its offline mode: RAPL counters and NVML where they are there. A
    processor without counters is estimated by codecarbon from its rated power and the CPU time of a process
    and its children; `record.energy["source"]` says which. Counters see the whole machine, so a run that
    shares it is charged for its neighbours. Of several processes estimates are added up, and counters once a
    node. After an error the other processes count up to the last checkpoint: they may not be there to be
    asked. Memory is left out: codecarbon guesses it from its size.

    Source: codecarbon, https://docs.codecarbon.io.
    """

    def __init__(self, record: RunRecord) -> None:
        self.record = record
        self.joules = dict(_NONE)
        """Of all processes, in all sessions of the run, as far as they were added up."""
        self.source = ""
        self._new = dict(_NONE)
        """Of this process, since the last time that they were added up."""
        self._tracker: Any = None
        self._trainer: pl.Trainer | None = None
        self._counts_cpu = True

    def state_dict(self) -> dict[str, Any]:
        """What the run has taken so far; plain values."""
        self._read()
        self._add_up()  # a checkpoint is saved by all ranks together
        return {"joules": dict(self.joules)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.joules = dict(state_dict["joules"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to count, in each process: whether it has counters or estimates shows only then."""
        self._trainer = trainer
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
        self._counts_cpu = trainer.local_rank == 0 or _is_estimated(hardware)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what was counted into the record."""
        if self._tracker is None:
            return
        self._read(goes_on=False)
        self._add_up()
        self._write(self.joules)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """The same for a run that is cut or diverges, without asking others."""
        if self._tracker is None:
            return
        self._read(goes_on=False)
        self._write({part: self.joules[part] + self._new[part] for part in self.joules})

    def _write(self, joules: dict[str, float]) -> None:
        self.record.energy = {"joules": sum(joules.values()), **joules, "source": self.source}

    def _read(self, goes_on: bool = True) -> None:
        if self._tracker is None:
            return
        spent = self._tracker.stop_task()
        assert self._trainer is not None
        if self._counts_cpu:
            self._new["cpu"] += JOULES_PER_KWH * spent.cpu_energy
        if self._trainer.local_rank == 0:
            self._new["gpu"] += JOULES_PER_KWH * spent.gpu_energy
        if goes_on:
            self._tracker.start_task()
        else:
            self._tracker = None

    def _add_up(self) -> None:
        """Collective: move what is new in every process into `joules`."""
        new, self._new = self._new, dict(_NONE)
        if self._trainer is not None and self._trainer.world_size > 1:
            device = self._trainer.strategy.root_device
            values = torch.tensor(list(new.values()), dtype=torch.float64, device=device)
            added = self._trainer.strategy.reduce(values, reduce_op="sum")
            assert isinstance(added, torch.Tensor)
            new = dict(zip(new, added.tolist(), strict=True))
        self.joules = {part: self.joules[part] + new[part] for part in new}


def _is_estimated(hardware: list[Any]) -> bool:
    """Whether no counter stands behind the processor's joules."""
    return any(type(part).__name__ == "CPU" and _mode(part) not in _MEASURED for part in hardware)


def _mode(part: Any) -> str:
    return str(getattr(part, "_mode", ""))


def _source(hardware: list[Any], *, processes: int, nodes: int) -> str:
    """In words, where the numbers come from, and of how much; codecarbon keeps this in its parts alone."""
    words, estimate = [], "CPU estimated from its rated power and load"
    if processes > 1:
        estimate += f", the sum over {processes} processes"
    for part in hardware:
        kind = type(part).__name__
        if kind == "CPU":
            mode = _mode(part)
            words.append(f"CPU measured by {_MEASURED[mode]}" if mode in _MEASURED else estimate)
        elif kind == "GPU":
            words.append("GPU measured by NVML")
        elif kind != "RAM":
            words.append(f"{kind} as codecarbon reads it")
    if nodes > 1:
        words.append(f"the sum over {nodes} nodes")
    return ", ".join(words)
