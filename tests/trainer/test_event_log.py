"""What TensorBoard shows of a run that was resumed at once is what it shows of one that never stopped."""

from __future__ import annotations

import time
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tempo.trainer.event_log import FOLDER, EventLog
from tests.conftest import Train


def write(log: EventLog, steps: range) -> None:
    for step in steps:
        log.log_metrics({"loss": float(step)}, step=step)
    log.close("failed")


def test_a_run_resumed_within_its_first_second_is_read_after_its_beginning(tmp_path: Path) -> None:
    write(EventLog(tmp_path, None), range(1, 7))
    (first,) = (tmp_path / FOLDER).glob("events.*")
    # In this very second, by a machine whose name sorts behind any other.
    first = first.rename(first.with_name(f"events.out.tfevents.{int(time.time())}.zz.99999999.0"))
    write(EventLog(tmp_path, 3), range(4, 9))
    assert sorted((tmp_path / FOLDER).glob("events.*"))[0] == first
    events = EventAccumulator(str(tmp_path / FOLDER)).Reload().Scalars("loss")
    assert [each.step for each in events] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_run_of_fit_validation_and_test_is_one_file(train: Train) -> None:
    folder = train("trainer.max_steps=7").folder
    assert len(list((folder / FOLDER).glob("events.*"))) == 1
