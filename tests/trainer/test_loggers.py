"""TensorBoard shows the same points for a resumed run as for one that never stopped."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tempo.trainer.loggers import FOLDER, TensorBoardLog
from tests.conftest import Train


def write(log: TensorBoardLog, steps: range) -> None:
    for step in steps:
        log.log_metrics({"loss": float(step)}, step=step)
    log.close("failed")


def test_a_run_resumed_within_its_first_second_is_read_after_its_beginning(tmp_path: Path) -> None:
    write(TensorBoardLog(tmp_path, None), range(1, 7))
    (first,) = (tmp_path / FOLDER).glob("events.*")
    # Created in this very second, on a machine whose name sorts after any other.
    first = first.rename(first.with_name(f"events.out.tfevents.{int(time.time())}.zz.99999999.0"))
    write(TensorBoardLog(tmp_path, 3), range(4, 9))
    assert sorted((tmp_path / FOLDER).glob("events.*"))[0] == first
    points = EventAccumulator(str(tmp_path / FOLDER)).Reload().Scalars("loss")
    assert [point.step for point in points] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_fit_validation_and_test_write_one_file(train: Train) -> None:
    folder = train("trainer.max_steps=7").folder
    assert len(list((folder / FOLDER).glob("events.*"))) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_folder_that_was_removed_is_an_error_of_the_folder(tmp_path: Path) -> None:
    """The writer's thread fails first, and Lightning would call the value unsupported."""
    log = TensorBoardLog(tmp_path / "run", None)
    log.log_metrics({"x": 1.0}, 1)
    log.experiment.flush()
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(FileNotFoundError) as caught:
        for step in range(10_000):
            log.log_metrics({"x": 1.0}, step)
            log.experiment.flush()
    assert str(tmp_path / "run") in str(caught.value.filename)
    for thread in threading.enumerate():  # its error would else be found in a later test
        if thread is not threading.current_thread() and "Writer" in type(thread).__name__:
            thread.join(5)
