"""What a signal does while a run lasts, and after."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tempo.record.run_json import RunRecord
from tempo.run import train as training
from tempo.trainer.interruption import Interrupted, Interruption
from tests.conftest import Train

BOTH = (signal.SIGINT, signal.SIGTERM)


def test_where_nothing_is_to_be_saved_the_run_ends_at_once() -> None:
    for number in BOTH:
        before = [signal.getsignal(each) for each in BOTH]
        with pytest.raises(Interrupted, match=signal.Signals(number).name), Interruption() as interruption:
            signal.raise_signal(number)
        assert interruption.asked == signal.Signals(number).name
        assert [signal.getsignal(each) for each in BOTH] == before


@pytest.mark.parametrize("first", BOTH, ids=["SIGINT", "SIGTERM"])
def test_training_is_asked_once_and_a_second_ctrl_c_stops_it(first: signal.Signals) -> None:
    with Interruption() as interruption:
        interruption.patient = True
        signal.raise_signal(first)
        signal.raise_signal(signal.SIGTERM)
        assert interruption.asked == first.name
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_run_that_is_asked_in_its_last_moments_is_completed_and_what_started_it_stops(
    train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(training, "draw_confusion", lambda *_: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):
        train("trainer.max_steps=1")
    assert RunRecord.read(tmp_path / "run").status == "completed"
