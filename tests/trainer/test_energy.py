"""Joules of training: counted, kept over an interruption, and labelled as what they are."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tempo.record import RunRecord
from tempo.trainer.energy import EnergyMeter, _source
from tests.conftest import Train

pytest.importorskip("codecarbon", reason="codecarbon is not installed: pip install -e '.[energy]'")


class _RankZero:
    is_global_zero = True
    world_size, num_nodes = 1, 1


def spend(seconds: float) -> None:
    begin = time.process_time()
    while time.process_time() - begin < seconds:
        sum(range(1000))


def metered(cpu_seconds: float, meter: EnergyMeter) -> None:
    trainer: Any = _RankZero()
    meter.on_train_start(trainer, trainer)
    spend(cpu_seconds)
    meter.on_fit_end(trainer, trainer)


def test_a_run_says_what_it_took_and_where_the_number_comes_from(train: Train, capfd: Any) -> None:
    record = train("trainer.energy=true", "trainer.epochs=2").record
    output = "".join(capfd.readouterr())
    assert "codecarbon" not in output
    assert "energy    0 J" not in output, "a short run takes little, and not nothing"
    energy = record.energy
    assert energy["joules"] == pytest.approx(energy["cpu"] + energy["gpu"])
    assert energy["joules"] > 0
    assert "measured by" in energy["source"] or "estimated" in energy["source"]
    assert not train(folder="unasked").record.energy


def test_joules_grow_with_the_work_and_survive_an_interruption() -> None:
    record = RunRecord(config={}, config_hash="", overrides=[], seed=0)
    meter = EnergyMeter(record)
    metered(1.0, meter)
    first = record.energy["joules"]
    resumed = EnergyMeter(RunRecord(config={}, config_hash="", overrides=[], seed=0))
    resumed.load_state_dict(meter.state_dict())
    metered(0.1, resumed)
    total = resumed.record.energy["joules"]
    assert first < total < 2 * first


def test_the_source_says_of_how_much_the_joules_are() -> None:
    """Ranks are no children of each other, and counters end with their machine."""

    class CPU:
        _mode = "cpu_load"

    class RAM:
        pass

    class Other:
        pass

    parts = [CPU(), RAM()]
    alone = "CPU estimated from its rated power and load"
    assert _source(parts, processes=1, nodes=1) == alone
    assert _source(parts, processes=4, nodes=1) == f"{alone} by one process of 4"
    CPU._mode = "intel_rapl"
    assert _source(parts, processes=4, nodes=2) == "CPU measured by RAPL, one node of 2"
    assert _source([Other()], processes=1, nodes=1) == "Other as codecarbon reads it"
