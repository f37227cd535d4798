"""The learning rate follows the batch size by the rule that was asked for."""

from __future__ import annotations

import csv

import pytest

from tempo.config.check import check
from tempo.config.run_length import lr_factor, schedule_of
from tempo.scheduler.build import Scaled
from tempo.scheduler.onecycle import OneCycle
from tests.conftest import Train


@pytest.mark.parametrize(
    ("rule", "batch", "reference", "factor"),
    [("none", 512, 128, 1), ("linear", 512, 128, 4), ("sqrt", 512, 128, 2), ("linear", 64, 128, 0.5)],
)
def test_factor(rule: str, batch: int, reference: int, factor: float, train_config) -> None:
    given = [f"trainer.lr_scaling={rule}", f"trainer.lr_reference_batch={reference}"]
    config = check(train_config(*given, f"data.total_batch_size={batch}"))
    assert lr_factor(config) == factor
    assert schedule_of(config).at(0, 10)["lr"] == pytest.approx(0.1 * factor)


def test_momentum_stays_and_the_whole_curve_is_scaled() -> None:
    plain = OneCycle(min_lr=0.1, max_lr=1.0)
    scaled = Scaled(plain, 2.0)
    assert scaled.moves_momentum
    for step in range(50):
        expected = plain.at(step, 50)
        assert scaled.at(step, 50) == {"lr": 2 * expected["lr"], "momentum": expected["momentum"]}


def test_a_run_trains_at_the_effective_rate_and_says_so(train: Train, capsys) -> None:
    run = train("trainer.lr_scaling=sqrt", "trainer.lr_reference_batch=16", "trainer.epochs=1")
    with (run.folder / "metrics.csv").open(encoding="utf-8") as file:
        rates = {float(row["lr"]) for row in csv.DictReader(file) if row["lr"]}
    assert rates == {0.2}
    assert "lr 0.2 (x 2: sqrt from a batch of 16)" in " ".join(capsys.readouterr().out.split())
