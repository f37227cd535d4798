"""Joules of training: counted, kept when a run is resumed, and labelled by their source."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tempo.record.run_json import RunRecord
from tempo.trainer.energy import EnergyMeter, _source
from tests.conftest import Train
from tests.jobs import SMALL
from tests.script_process import run_script

pytest.importorskip("codecarbon", reason="codecarbon is not installed: pip install -e '.[energy]'")


METER = """
import os
from types import SimpleNamespace

class CPU:
    _mode = "cpu_load"

class GPU:
    pass

class OfflineEmissionsTracker:
    def __init__(self, **_):
        self._hardware = [CPU(), GPU()]

    def start_task(self):
        pass

    def stop_task(self):
        joules = 10 ** int(os.environ["RANK"])
        return SimpleNamespace(cpu_energy=joules / 3.6e6, gpu_energy=100 * joules / 3.6e6)
"""
"""Stands in for codecarbon: a reading is 1 J and 100 J on rank 0, ten times that on rank 1."""


class _RankZero:
    is_global_zero = True
    world_size, num_nodes, local_rank = 1, 1, 0


def metered(meter: EnergyMeter, cpu_seconds: float) -> float:
    """Return the joules in the record after a fit that takes some processor time."""
    trainer: Any = _RankZero()
    meter.on_train_start(trainer, trainer)
    begin = time.process_time()
    while time.process_time() - begin < cpu_seconds:
        sum(range(1000))
    meter.on_fit_end(trainer, trainer)
    return float(meter.record.energy["joules"])


def test_the_record_has_joules_and_their_source(train: Train, capfd: Any) -> None:
    record = train("trainer.energy=true", "trainer.epochs=2").record
    output = "".join(capfd.readouterr())
    assert "codecarbon" not in output
    assert "energy    0 J" not in output, "a short run takes little, but not nothing"
    energy = record.energy
    assert energy["joules"] == pytest.approx(energy["cpu"] + energy["gpu"])
    assert energy["joules"] > 0
    assert "measured by" in energy["source"] or "estimated" in energy["source"]
    assert not train(folder="unasked").record.energy


def test_joules_grow_with_the_work_and_survive_a_resume() -> None:
    meter, resumed = (
        EnergyMeter(RunRecord(config={}, config_hash="", overrides=[], seed=0)) for _ in range(2)
    )
    first = metered(meter, cpu_seconds=0.5)
    resumed.load_state_dict(meter.state_dict())
    assert first < metered(resumed, cpu_seconds=0.05) < 2 * first


def test_the_source_says_what_was_added_up() -> None:
    """Estimates are per process, counters per node."""
    CPU, RAM, Other = (type(name, (), {"_mode": "cpu_load"}) for name in ("CPU", "RAM", "Other"))
    parts = [CPU(), RAM()]
    alone = "CPU estimated from its rated power and load"
    assert _source(parts, processes=1, nodes=1) == alone
    assert _source(parts, processes=4, nodes=1) == f"{alone}, the sum over 4 processes"
    CPU._mode = "intel_rapl"
    assert _source(parts, processes=4, nodes=2) == "CPU measured by RAPL, the sum over 2 nodes"
    assert _source([Other()], processes=1, nodes=1) == "Other as codecarbon reads it"


def test_estimates_add_up_over_ranks_and_counters_are_read_once_per_node(tmp_path: Path) -> None:
    (tmp_path / "codecarbon.py").write_text(METER, encoding="utf-8")
    job = [
        SMALL[0],
        *SMALL[2:],
        "trainer=ddp_cpu",
        "trainer.energy=true",
        "trainer.epochs=2",
        "trainer.threads=1",
    ]
    done = run_script(
        "train.py", *job, f"hydra.run.dir={tmp_path}/run", environment={"PYTHONPATH": str(tmp_path)}
    )
    assert done.code == 0, done.err
    energy = RunRecord.read(tmp_path / "run").energy
    readings = round(energy["gpu"] / 100)
    assert readings == 3  # two checkpoints and the end
    assert energy["gpu"] == pytest.approx(100 * readings)  # the node's counter, read by one process
    assert energy["cpu"] == pytest.approx((1 + 10) * readings)
    assert energy["joules"] == pytest.approx(energy["cpu"] + energy["gpu"])
    assert energy["source"] == (
        "CPU estimated from its rated power and load, the sum over 2 processes, GPU measured by NVML"
    )
