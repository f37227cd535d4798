"""Measure the energy of training if the machine has counters; otherwise estimate it."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import pytorch_lightning as pl
import torch

from tempo.distributed.collectives import sum_over_ranks
from tempo.record.run_json import RunRecord
from tempo.task.late_callback import LateCallback

JOULES_PER_KWH = 3.6e6
_NONE = {"cpu": 0.0, "gpu": 0.0}
_MEASURED = {"intel_rapl": "RAPL", "intel_power_gadget": "Power Gadget", "windows_emi": "Windows EMI"}


class EnergyMeter(LateCallback):
    """Adds up the joules of processor and GPUs from the start of the fit to its end, validation included.

    codecarbon reads them in its offline mode, from RAPL counters and NVML if present. Without counters it
    estimates the processor's energy from its rated power and the CPU time of a process and its children;
    `record.energy["source"]` says which. Counters cover the whole machine, including other runs on it. With
    several processes, estimates are added up, and counters are read once per node. After an error the other
    processes count only up to the last checkpoint, as they may no longer answer. Memory is left out, because
    codecarbon only guesses its energy from its size.

    Source: codecarbon, https://docs.codecarbon.io.
    """

    def __init__(self, record: RunRecord) -> None:
        self.record = record
        self.joules = dict(_NONE)
        """Joules of all processes in all sessions of the run, up to the last time they were added up."""
        self.source = ""
        self._new = dict(_NONE)
        """Joules of this process since the last time they were added up."""
        self._tracker: Any = None
        self._trainer: pl.Trainer | None = None
        self._counts_cpu = True

    def state_dict(self) -> dict[str, Any]:
        """Return the joules so far, as plain values for a checkpoint."""
        self._read()
        self._add_up()  # a checkpoint is saved by all ranks together
        return {"joules": dict(self.joules)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        self.joules = {part: float(state_dict["joules"][part]) for part in _NONE}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start to count in every process; only the started tracker knows whether there are counters."""
        self._trainer = trainer
        # Imported only here: it is an optional extra and takes half a second.
        from codecarbon import OfflineEmissionsTracker

        logging.getLogger("codecarbon").setLevel(logging.CRITICAL)  # it logs before it reads log_level
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._tracker = OfflineEmissionsTracker(
                country_iso_code="FRA",  # required, but does not affect joules
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
        """Write the joules into the record."""
        if self._tracker is None:
            return
        self._read(continues=False)
        self._add_up()
        self._write(self.joules)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Write the joules into the record, without asking other processes."""
        if self._tracker is None:
            return
        self._read(continues=False)
        self._write({part: self.joules[part] + self._new[part] for part in self.joules})

    def _write(self, joules: dict[str, float]) -> None:
        self.record.energy = {"joules": sum(joules.values()), **joules, "source": self.source}

    def _read(self, continues: bool = True) -> None:
        if self._tracker is None:
            return
        spent = self._tracker.stop_task()
        assert self._trainer is not None
        if self._counts_cpu:
            self._new["cpu"] += JOULES_PER_KWH * spent.cpu_energy
        if self._trainer.local_rank == 0:
            self._new["gpu"] += JOULES_PER_KWH * spent.gpu_energy
        if continues:
            self._tracker.start_task()
        else:
            self._tracker = None

    def _add_up(self) -> None:
        """Move the new joules of every process into `joules`; a collective operation."""
        new, self._new = self._new, dict(_NONE)
        if self._trainer is not None and self._trainer.world_size > 1:
            device = self._trainer.strategy.root_device
            values = torch.tensor(list(new.values()), dtype=torch.float64, device=device)
            total = sum_over_ranks(self._trainer.strategy, values)
            new = dict(zip(new, total.tolist(), strict=True))
        self.joules = {part: self.joules[part] + new[part] for part in new}


def _is_estimated(hardware: list[Any]) -> bool:
    """Whether the processor's joules are estimated instead of measured."""
    return any(type(part).__name__ == "CPU" and _mode(part) not in _MEASURED for part in hardware)


def _mode(part: Any) -> str:
    return str(getattr(part, "_mode", ""))


def _source(hardware: list[Any], *, processes: int, nodes: int) -> str:
    """Describe the source of the numbers, which codecarbon has only in private attributes."""
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
