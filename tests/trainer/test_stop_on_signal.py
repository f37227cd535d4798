"""What a signal does during a run and at its end."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tempo.record.run_json import RunRecord
from tempo.run import train as training
from tempo.trainer.stop_ranks_on_signal import Interrupted, StopOnSignal
from tests.conftest import Train

BOTH = (signal.SIGINT, signal.SIGTERM)


def test_the_run_stops_at_once_if_nothing_is_to_be_saved() -> None:
    for number in BOTH:
        before = [signal.getsignal(handled) for handled in BOTH]
        with pytest.raises(Interrupted, match=signal.Signals(number).name), StopOnSignal() as stop:
            signal.raise_signal(number)
        assert stop.asked == signal.Signals(number).name
        assert [signal.getsignal(handled) for handled in BOTH] == before


@pytest.mark.parametrize("first", BOTH, ids=["SIGINT", "SIGTERM"])
def test_training_goes_on_until_a_second_ctrl_c(first: signal.Signals) -> None:
    with StopOnSignal() as stop:
        stop.patient = True
        signal.raise_signal(first)
        signal.raise_signal(signal.SIGTERM)
        assert stop.asked == first.name
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_signal_in_the_last_moments_completes_the_run_and_stops_the_sweep_around_it(
    train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(training, "draw_confusion", lambda *_: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):
        train("trainer.max_steps=1", pictures=True)
    assert RunRecord.read(tmp_path / "run").status == "completed"
